"""Stand-in for comfyui-inpaint-nodes: its recorded node classes and its model folder."""

import os

import folder_paths
from standin.recorded import display_names, load_pack

folder_paths.folder_names_and_paths["inpaint"] = (
    [os.path.join(folder_paths.models_dir, "inpaint")],
    {".pt", ".pth", ".safetensors", ".patch"},
)

NODE_CLASS_MAPPINGS = load_pack(__file__)
NODE_DISPLAY_NAME_MAPPINGS = display_names(NODE_CLASS_MAPPINGS)
