"""Lipstream's nodes for ComfyUI: thin clients of `lipstream serve`."""

from .lengths import VideoLengthAdjuster
from .nodes import LatentSyncNode, LipstreamMemory, LipstreamRun

NODE_CLASS_MAPPINGS = {
    "LatentSyncNode": LatentSyncNode,
    "VideoLengthAdjuster": VideoLengthAdjuster,
    "LipstreamRun": LipstreamRun,
    "LipstreamMemory": LipstreamMemory,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "LatentSyncNode": "LatentSync Node (Lipstream)",
    "VideoLengthAdjuster": "Video Length Adjuster",
    "LipstreamRun": "Lipstream Run (files)",
    "LipstreamMemory": "Lipstream Memory",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
