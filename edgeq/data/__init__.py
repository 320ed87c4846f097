# SPDX-License-Identifier: Apache-2.0
"""Calibration data: pictures, arrays and sound to inputs, and what looks wrong about them."""
