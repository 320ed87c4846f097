# SPDX-License-Identifier: Apache-2.0
"""The network between import and lowering: graph.py holds it, ops.py says what each op is."""
