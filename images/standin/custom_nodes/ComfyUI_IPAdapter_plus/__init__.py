"""Stand-in for ComfyUI_IPAdapter_plus: its recorded node classes and its model folder."""

import os

import folder_paths
from standin.recorded import display_names, load_pack

folder_paths.folder_names_and_paths["ipadapter"] = (
    [os.path.join(folder_paths.models_dir, "ipadapter")],
    folder_paths.supported_pt_extensions,
)

NODE_CLASS_MAPPINGS = load_pack(__file__)
NODE_DISPLAY_NAME_MAPPINGS = display_names(NODE_CLASS_MAPPINGS)
