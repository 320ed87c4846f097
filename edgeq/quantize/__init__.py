# SPDX-License-Identifier: Apache-2.0
"""From real scales to integers: multipliers, tables and lowering. Behind it there are no floats."""
