"""Steps on a device that are recorded once, as a CUDA graph, and then replayed.

    noise = Philox(0, "cuda")
    step = Recorded(lambda x: train.descend(opt, *model.loss(x, noise), max_norm=1.0))
    numbers = step(x)                                   {"loss": 0.31, ...}

    draw = Recorded(lambda: sampler.sample(64, shape, noise))
    images = draw()

A small model's kernels finish in less time than Python needs to launch them. The first call runs
normally, in its own memory pool; the second is recorded as it launches its kernels; every later
call launches the whole recording at once, with the same results. What makes this correct:

- Each argument is copied into the array that held it in the first call.
- Whatever changes from call to call is on the device, where the recorded kernels read it: the
  learning rate and t of an optimiser, t of an EMA, the count of a random.Philox (`upload`).
- Arrays that the step takes from the host (a noise schedule) are copied once. They must be the same
  in the second call as in the first (else TypeError), so noise drawn on the host is detected.
- Nothing is read back: in `descend`, a loss that is not finite keeps the optimiser from writing.
- All other decisions stay as the second call made them: `training`, a precision, how many steps, a
  learning rate that is set inside the step (set it between calls instead).
"""

import contextlib
import math

from minigen.optim import Optimizer
from minigen.random import Philox
from minigen.tensor import Tensor, as_array, record, write


class Recorded:
    """`function(*arrays)` on a device, recorded. It returns tensors, which the next call
    overwrites, or, like a training step, a dict of scalars, which are converted to numbers.

    Raises TypeError for arrays whose shape or dtype differs from the first call's, for a host array
    that is not what it was in the first call, and for parameters that have been moved since;
    FloatingPointError for a number that is not finite. If the call contains exactly one optimiser
    step, which therefore wrote nothing, it is repeated unrecorded, so that `descend` reports what
    went wrong; no other call is repeated. Running averages (EMA, batch norm) have then counted the
    step once more than in an unrecorded run.
    """

    def __init__(self, function):
        self.function, self.inputs, self.result, self.graph = function, None, None, None
        self.parts = {}  # each object that counts steps or draws, with its count before this call
        self.constants, self.written, self.read = [], {}, {}

    def __call__(self, *inputs):
        import cupy
        inputs = [as_array(x.data if isinstance(x, Tensor) else x) for x in inputs]
        if self.inputs is None:
            self.inputs = [cupy.empty(x.shape, x.dtype) for x in inputs]
            self.stream = cupy.cuda.Stream(non_blocking=True)
            self.pool = cupy.cuda.MemoryPool()
        self._copy_inputs(inputs, cupy)
        self.parts = {part: part.t for part in self.parts}
        for part in self.parts:
            part.upload()
        run = self._run if self.result is None else self._replay if self.graph else self._record
        run(cupy)
        if not isinstance(self.result, dict):
            return self.result
        numbers = {key: float(x) for key, x in self.result.items()}
        for key, number in numbers.items():
            if not math.isfinite(number):
                return self._rerun(f"{key} is {number} in a step that was recorded")
        return numbers

    def _rerun(self, what):
        """Repeat the call unrecorded; FloatingPointError if it may have written something."""
        stepped = [part for part, t in self.parts.items() if isinstance(part, Optimizer)
                   for _ in range(part.t - t)]
        if len(stepped) != 1 or math.isfinite(stepped[0].scalars[0]):  # a factor NaN writes nothing
            raise FloatingPointError(f"{what}: look at the same step unrecorded")
        for part, part.t in self.parts.items():
            part.upload()
        return self.function(*self.inputs)

    def _copy_inputs(self, inputs, cupy):
        """Copy this call's arrays into those of the first call."""
        kinds = [[(a.shape, str(a.dtype)) for a in arrays] for arrays in (self.inputs, inputs)]
        if kinds[0] != kinds[1]:
            raise TypeError(f"a step recorded with {kinds[0]} was given {kinds[1]}: calls of other "
                            "shapes than the first's need a Recorded of their own")
        for a, x in zip(self.inputs, inputs, strict=True):
            a[...] = cupy.asarray(x)

    @contextlib.contextmanager
    def _recording(self, cupy):
        """A context in which memory comes from the recording's own pool and nothing can be read."""
        self.next, self.written, self.read = 0, {}, {}
        cupy.cuda.get_current_stream().synchronize()
        with record(self), cupy.cuda.using_allocator(self.pool.malloc), self.stream:
            yield
        self.stream.synchronize()

    def _run(self, cupy):
        self.constants, self.parts = [], {}
        with self._recording(cupy):
            self.result = self._call()

    def _record(self, cupy):
        with self._recording(cupy):
            self.stream.begin_capture()
            try:
                self.result = self._call()
            except BaseException:
                with contextlib.suppress(Exception):  # the recording has failed already
                    self.stream.end_capture()
                for part, t in self.parts.items():  # nothing ran, so nothing counts
                    part.t = t
                raise
            self.graph = self.stream.end_capture()
        self.steps = {part: part.t - t for part, t in self.parts.items()}
        self.graph.launch()

    def _replay(self, cupy):
        if any(t.data is not a for t, a in (self.read | self.written).items()):
            raise TypeError("a parameter or buffer was moved since the step was recorded: make a "
                            "new Recorded")
        for t in self.written:
            write(t, lambda a: None)  # graphs computed from the old values are stale
        self.graph.launch()
        for part, steps in self.steps.items():
            part.t += steps

    def _call(self):
        """What the function returns; the scalars of a dict are detached from their graphs."""
        result = self.function(*self.inputs)
        return {key: Tensor(x.data) if isinstance(x, Tensor) else x
                for key, x in result.items()} if isinstance(result, dict) else result

    def register(self, part):
        """Called by an optimiser, an EMA or a generator that the step is about to advance."""
        if part not in self.parts:
            if self.result is not None:
                raise TypeError(f"a step that is recorded used {type(part).__name__}, which "
                                "its first call did not use")
            self.parts[part] = part.t
            part.upload()

    def constant(self, a, m):
        """The copy on the device, made by the module m, of a host array: the i-th array that a call
        asks for must equal the i-th that the first call asked for."""
        i, kind = self.next, (a.shape, a.dtype, a.tobytes())
        self.next += 1
        if self.result is None and i == len(self.constants):
            self.constants.append((kind, m.asarray(a)))
        if i == len(self.constants) or self.constants[i][0] != kind:
            raise TypeError(f"a step that is recorded took an array {a.shape} {a.dtype} from the "
                            "host which is not what it was at the first call: make it an argument, "
                            "or draw it from a random.Philox of the device")
        return self.constants[i][1]


def recorded_step(train_step):
    """`train_step(*arrays, rng)` as a Recorded that draws its noise on the device.
    Each call seeds the noise from its rng, so that a resumed run equals an uninterrupted one."""
    noise = Philox(0, "cuda")
    replayed = Recorded(lambda *arrays: train_step(*arrays, noise))

    def step(*arrays_and_rng):
        *arrays, rng = arrays_and_rng
        noise.seed(int(rng.integers(2**63)))
        return replayed(*arrays)
    return step
