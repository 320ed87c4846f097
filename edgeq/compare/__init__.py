# SPDX-License-Identifier: Apache-2.0
"""Latency beside other runtimes: worker processes, their race, a chart."""
