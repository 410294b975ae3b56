"""Stand-in for ComfyUI-GGUF: its recorded node classes and its views of two model folders."""

import folder_paths
from standin.recorded import display_names, load_pack

# Not separate folders: they list the GGUF files of two existing ones.
for name, listed_in in (("unet_gguf", "diffusion_models"), ("clip_gguf", "text_encoders")):
    folder_paths.folder_names_and_paths[name] = (folder_paths.folder_names_and_paths[listed_in][0], {".gguf"})

NODE_CLASS_MAPPINGS = load_pack(__file__)
NODE_DISPLAY_NAME_MAPPINGS = display_names(NODE_CLASS_MAPPINGS)
