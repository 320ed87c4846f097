# SPDX-License-Identifier: Apache-2.0
"""File bytes to Graph; nothing else in edgeq knows these file formats."""
