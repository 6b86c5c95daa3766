"""Conversion: another norm for a trained model, without training it again.

data        some examples, in batches
passes      the way of a batch through a model, which can stop anywhere and go on
capture     what each norm gets and should give, measured while the data pass through both models
statistics  that, as a few numbers per example and channel
fit         the weights of a norm with which it comes nearest to it
distil      training on the old model's predictions
report      what was done, and what is left of the model's function
convert     these steps, one after the other
"""

from kerasnorm.conversion.convert import calibrate, convert
from kerasnorm.conversion.report import ConversionReport, ConvertedSite

__all__ = ["ConversionReport", "ConvertedSite", "calibrate", "convert"]
