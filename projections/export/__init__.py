"""The export: the log and the read models as plain files, for analysts, auditors and other machines.

Files are written whole and never changed, and the manifest, which names them with their SHA-256, is written last: what
the manifest names is there, however a run ended. ``docs/export.md`` has the columns.
"""

from __future__ import annotations
