# SPDX-License-Identifier: Apache-2.0
"""The .eqm file of docs/FORMAT.md: memory plan, writer, and an independent reader."""
