"""Where signal comes from: a folder, standard input, a sound card, the simulator."""

from edge_agent.sources.folder import FolderSource, folder_machine_id
from edge_agent.sources.pcm_stream import PcmSource
from edge_agent.sources.simulated import SimulatedSource
from edge_agent.sources.sound_card import SoundCardSource

__all__ = [
    "FolderSource",
    "PcmSource",
    "SimulatedSource",
    "SoundCardSource",
    "folder_machine_id",
]
