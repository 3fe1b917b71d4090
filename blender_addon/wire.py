"""The only door to the code that the extension shares with the backend.

``build_addon.py`` rewrites the import below to the vendored copy; nothing else in the extension names it.
"""

from __future__ import annotations

from platelight.protocol import errors, requests  # vendored: rewritten by build_addon.py

AccessDenied = errors.AccessDenied
Cancelled = errors.Cancelled
ConnectionFailed = errors.ConnectionFailed
InputError = errors.InputError
JobFailed = errors.JobFailed
PlatelightError = errors.PlatelightError
Decompose = requests.Decompose
Refine = requests.Refine
Relight = requests.Relight
Option = requests.Option
options_of = requests.options_of
from platelight.shading import principled  # vendored: rewritten by build_addon.py
principled_from_f0 = principled.principled_from_f0
