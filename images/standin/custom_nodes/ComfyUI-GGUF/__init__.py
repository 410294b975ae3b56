"""Stand-in for ComfyUI-GGUF: its node classes by description and its views of two model folders."""

import folder_paths
from standin.recorded import display_names, load_pack

# Not folders of their own: the GGUF files of two that exist.
for name, seen_in in (("unet_gguf", "diffusion_models"), ("clip_gguf", "text_encoders")):
    folder_paths.folder_names_and_paths[name] = (folder_paths.folder_names_and_paths[seen_in][0], {".gguf"})

NODE_CLASS_MAPPINGS = load_pack(__file__)
NODE_DISPLAY_NAME_MAPPINGS = display_names(NODE_CLASS_MAPPINGS)
