"""Stand-in for comfyui_controlnet_aux: its recorded node classes."""

from standin.recorded import display_names, load_pack

NODE_CLASS_MAPPINGS = load_pack(__file__)
NODE_DISPLAY_NAME_MAPPINGS = display_names(NODE_CLASS_MAPPINGS)
