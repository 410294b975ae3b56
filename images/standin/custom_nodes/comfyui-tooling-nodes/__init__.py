"""Stand-in for comfyui-tooling-nodes: its recorded node classes, and working routes for Krita."""

from server import PromptServer
from standin.recorded import display_names, load_pack

from . import api
from .outputs import BEHAVIOURS

api.add(PromptServer.instance)

NODE_CLASS_MAPPINGS = load_pack(__file__, BEHAVIOURS)
NODE_DISPLAY_NAME_MAPPINGS = display_names(NODE_CLASS_MAPPINGS)
