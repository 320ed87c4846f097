# SPDX-License-Identifier: Apache-2.0
"""Runs .eqm files: _core.pyx binds the C library, model.py and session.py are what users see."""
