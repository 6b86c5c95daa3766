"""Consistent Normalization: parameters of its own for each transformation of the data.

branches     which branch runs: the context `branch`
norm         `ConsistentNorm`, a bank of norms with one for each branch
transforms   transformations of images
model        `ConsistentModel`, which trains every branch on its transformation
"""
