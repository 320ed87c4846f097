# SPDX-License-Identifier: Apache-2.0
"""Pages and JSON documents on how good a network's integers are."""
