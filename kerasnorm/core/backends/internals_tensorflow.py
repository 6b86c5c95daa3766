"""What TensorFlow keeps private and its backend needs, all of it here.

Tried with TensorFlow 2.21; `tests/test_internals.py` runs each function. Two of the three only make
things faster or smaller: where a version has moved them, their absence is told from here.
"""

import tensorflow as tf


def is_in_xla():
    """Whether what is being traced will be compiled by XLA; False where that cannot be known.

    `GraphOrParentsInXlaContext`: nothing public says it. The plain formulas are right, and slower.
    """
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:
        return False
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def variable_creators():
    """The variable creators of this thread, the innermost last.

    `Graph._variable_creator_stack`, of entries `(priority, creator)`: what a replica's thread takes
    over from the one that starts it is public to set, not to read.
    """
    return [creator for _, creator in tf.compat.v1.get_default_graph()._variable_creator_stack]


def gradient_register():
    """The register of gradients by name; empty where it is no longer in its place.

    `gradient_registry._registry`: custom gradients are entered there and never taken out.
    """
    try:
        from tensorflow.python.framework.ops import gradient_registry

        return gradient_registry._registry
    except (ImportError, AttributeError):
        return {}
