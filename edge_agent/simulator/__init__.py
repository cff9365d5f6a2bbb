"""Simulated machines whose signals follow the physics of rotating machinery. It needs numpy and nothing else."""

from edge_agent.simulator.machine import Machine
from edge_agent.simulator.plant import PLANTS, Plant, PlantOptions, make_plant
from edge_agent.simulator.plant_recordings import SimulateConfig, WrittenRecording, write_plant
from edge_agent.simulator.spec import Bearing, FaultKind, FaultSpec, Line, MachineSpec, Mode, OffPeriod

__all__ = [
    "PLANTS",
    "Bearing",
    "FaultKind",
    "FaultSpec",
    "Line",
    "Machine",
    "MachineSpec",
    "Mode",
    "OffPeriod",
    "Plant",
    "PlantOptions",
    "SimulateConfig",
    "WrittenRecording",
    "make_plant",
    "write_plant",
]
