"""What runs in a worker, whoever started it: what it is sent once, and then task by task.

Nothing here imports Keras: what is unpickled does, where it needs it.
"""

import dataclasses
import mmap
import pickle
import struct
import traceback

import cloudpickle

from search import modules
from search.errors import BadInput, CannotWrite, SearchError, one_line
from search.jsonable import jsonable

# Of a file, before the lengths of its parts.
_COUNT = struct.Struct("<q")
_ALIGNMENT = 64


@dataclasses.dataclass
class Parcel:
    """A function of tasks with all that it needs, ready to be sent: the network, the data.

    Attributes:
        sources: the user's code, as `search.modules` has it.
        pickled: the function.
        buffers: its arrays.
    """

    sources: list
    pickled: bytes
    buffers: list

    @classmethod
    def of(cls, run):
        """A parcel with a function.

        Args:
            run: `run(task, report) -> row`.
        """
        buffers: list[pickle.PickleBuffer] = []
        try:
            pickled = cloudpickle.dumps(run, protocol=5, buffer_callback=buffers.append)
            raw = [buffer.raw() for buffer in buffers]
        except SearchError:
            raise
        except Exception as error:
            raise BadInput(
                f"the search cannot be sent to other processes: {one_line(error)}. Needed: a "
                "network and data that can be pickled, such as a function and arrays; or "
                "executor='inline'."
            ) from error
        return cls(modules.sources(pickled), pickled, raw)

    def write(self, path):
        """Write it into a file, for processes of this machine."""
        head = pickle.dumps((self.sources, self.pickled))
        parts = [memoryview(head), *self.buffers]
        try:
            with open(path, "wb") as file:
                file.write(_COUNT.pack(len(parts)))
                file.write(struct.pack(f"<{len(parts)}q", *(part.nbytes for part in parts)))
                for part in parts:
                    file.seek(_aligned(file.tell()))
                    file.write(part)
        except OSError as error:
            raise CannotWrite.of(path, error) from error

    @classmethod
    def read(cls, path):
        """What `write` wrote. The arrays are pages of the file, which all processes share."""
        try:
            with open(path, "rb") as file:
                # Writable, as arrays usually are; what is written is not shared.
                whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        except OSError as error:
            raise SearchError(f"a worker cannot read {path}: {one_line(error)}.") from error
        (count,) = _COUNT.unpack_from(whole)
        lengths = struct.unpack_from(f"<{count}q", whole, _COUNT.size)
        parts, start = [], _COUNT.size * (1 + count)
        for length in lengths:
            start = _aligned(start)
            parts.append(whole[start : start + length])
            start += length
        sources, pickled = pickle.loads(parts[0])
        return cls(sources, pickled, parts[1:])

    def open(self):
        """The function.

        Raises:
            BadInput: something that it needs cannot be had in this process.
        """
        try:
            modules.install(self.sources)
            return pickle.loads(self.pickled, buffers=self.buffers)
        except SearchError:
            raise
        except (Exception, SystemExit) as error:
            raise BadInput(
                f"a worker cannot load the search: {one_line(error)}. Needed: a network and data "
                "that can be pickled, such as a function and arrays; or executor='inline'."
            ) from error


def _aligned(position):
    """Where the next array may begin."""
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def ended(run, task, report):
    """What comes of a task: its row as a plain dictionary, or the exception that ends the search.

    Args:
        run: the function of a parcel.
        task: a `search.task.Task`.
        report: `report(epoch, logs)` gives a reason to stop, or None.
    """
    try:
        return jsonable(dict(run(task, report)))
    except SearchError as error:
        return error
    except BaseException as error:
        details = "".join(traceback.format_exception(error))
        return RuntimeError(f"a worker raised {one_line(error)}\n\n{details}")
