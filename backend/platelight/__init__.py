"""Platelight: relight photographed plates inside Blender Cycles.

Imports nothing heavy, so that ``platelight.protocol`` and ``platelight.client`` work where torch is absent.
"""

__version__ = "0.1.0"
