"""Flags with which XLA compiles small programs quickly, for processes that tests start with JAX.

In the tests' own process conftest.py does the same for each program.
"""

QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
