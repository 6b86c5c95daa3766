"""Which normalization should this network on this data use, and how sure are we?

The search over norm specs comes with a later release; the package holds its name.
"""
