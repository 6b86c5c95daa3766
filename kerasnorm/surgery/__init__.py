"""Surgery: a model with its normalization layers replaced.

find        the norms of a model, and those that `where` selects
composite   layers that are code and keep norms in attributes
inherit     a new norm for each: which arguments and weights it takes over from the old one
compare     how its outputs relate to the old ones
rebuild     a copy of the model around the new norms
recompile   the optimizer and its state
report      what was done
replace     these steps, one after the other
"""

from kerasnorm.surgery.composite import register_composite
from kerasnorm.surgery.find import norm_sites
from kerasnorm.surgery.rebuild import rebuild
from kerasnorm.surgery.replace import replace_norms
from kerasnorm.surgery.report import Replacement, Report, report_of

__all__ = [
    "Replacement",
    "Report",
    "norm_sites",
    "rebuild",
    "register_composite",
    "replace_norms",
    "report_of",
]
