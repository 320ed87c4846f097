# SPDX-License-Identifier: Apache-2.0
# Included by _core.pyx: what this machine can do.

def isas():
    """The name of each instruction set in this build, and what this machine lacks for it."""
    cdef eq_isa_info info
    found = []
    for i in range(eq_isa_count()):
        check(eq_isa_get(i, &info))
        found.append((text(info.name), text(info.missing)))
    return found


def chosen_isa():
    """The index of that which models opened now use."""
    cdef uint32_t isa
    check(eq_isa_chosen(&isa))
    return isa


def peak(uint32_t isa, uint32_t turns):
    """Multiply-accumulates done, as fast as that instruction set can; 0 where that is not known."""
    cdef uint64_t macs
    with nogil:
        macs = eq_isa_peak(isa, turns)
    return macs
