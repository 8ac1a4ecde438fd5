"""A transformer's products with weights in 8-bit integers: how numbers fit, and the program.

Activations become unsigned bytes between limits that were measured over texts, weights signed bytes
with one step for each output (Jacob et al., 2018, Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference). Attention, sums, normalisation, pooling and the head
of a cross-encoder keep the precision that the program runs in.

One channel or two of a transformer's activations are five to ten times as large as all others, at
the special tokens above all, and a step that reaches so far is too coarse for the rest. Such a
channel is divided by what it has too much, and its weights are multiplied by that, which leaves the
product as it was (Xiao et al., 2023, SmoothQuant, which does so to every channel; here that lost
more than it gained).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .durable import save_tensors
from .errors import DataError
from .inference import Feed, RuntimeChoice, fed_names, openvino_properties

_USUAL = 0.98
"""The share of an activation's channels whose largest values count as usual."""
_STATES = 3
"""The rank of activations of tokens, (texts, tokens, width); a head's have one less."""

Floats = NDArray[np.float32]


class Limits(NamedTuple):
    """What the activation before one or more products is divided by, and where it then lies.

    ``divisors`` is (width,), each at least 1; what is below ``low`` or above ``high`` is cut.
    """

    divisors: Floats
    low: float
    high: float


class Measuring:
    """A program that also remembers how its activations lie: an encoder runs it.

    Every text of a batch runs alone, without its padding, which is no text of anyone's.
    """

    def __init__(self, file: Path, runtime: RuntimeChoice) -> None:
        import openvino
        from openvino import opset13

        program = openvino.Core().read_model(str(file))
        extremes = []
        for products in _by_source(program):
            source = products[0].input_value(0)
            axes = opset13.constant(np.arange(_STATES - 1))
            extremes += [
                opset13.result(reduce(source, axes, False))
                for reduce in (opset13.reduce_min, opset13.reduce_max)
            ]
        program.add_results(extremes)
        compiled = openvino.Core().compile_model(program, "CPU", openvino_properties(runtime))
        self._request = compiled.create_infer_request()
        self._rows: list[list[Floats]] = [[] for _ in extremes]
        self.input_names = fed_names(compiled)

    def run(self, feed: Feed) -> Floats:
        return np.concatenate([self._alone(feed, row) for row in range(len(feed["input_ids"]))])

    def limits(self) -> list[Limits]:
        """The limits of each activation over all texts so far, in the order of the computation.

        Divisors come from the largest values of all texts; the ends are the means of each text's
        least and largest: what is cut of some texts costs less than coarser steps for all.
        """
        columns = [np.stack(rows) for rows in self._rows]
        return [_limits(*pair) for pair in zip(columns[::2], columns[1::2], strict=True)]

    def _alone(self, feed: Feed, row: int) -> Floats:
        length = int(feed["attention_mask"][row].sum())
        outputs = self._request.infer(
            {name: np.ascontiguousarray(ids[row : row + 1, :length]) for name, ids in feed.items()}
        )
        for number, rows in enumerate(self._rows, start=1):
            rows.append(np.array(outputs[number], dtype=np.float32))
        return np.array(outputs[0], dtype=np.float32)


def use_integers(program: Any, limits: Sequence[Limits], origin: Path) -> None:
    """Change an OpenVINO program so that its products with weights are of integers.

    ``limits`` are those that were measured of the same model. Raises DataError,
    which names ``origin``, where they do not fit.
    """
    groups = _by_source(program)
    widths = [_weights(products[0]).shape[1] for products in groups]
    if widths != [len(each.divisors) for each in limits]:
        raise DataError(
            f"{origin} has limits of {len(limits)} activations, and the model has {len(groups)}, "
            "of other widths perhaps: make the folder again with rq quantize"
        )
    for products, each in zip(groups, limits, strict=True):
        rounded = _rounded(products[0].input_value(0), each)
        for product in products:
            product.input(0).replace_source_output(rounded.output(0))
            product.input(1).replace_source_output(_integers(product, each.divisors).output(0))
    program.validate_nodes_and_infer_types()


def save_limits(path: Path, limits: Sequence[Limits]) -> None:
    """Write what :func:`read_limits` reads, not yet durable. Raises OSError."""
    tensors: dict[str, Floats] = {}
    for number, each in enumerate(limits):
        tensors[f"{number:03}.divisors"] = each.divisors
        tensors[f"{number:03}.limits"] = np.array([each.low, each.high], dtype=np.float32)
    save_tensors(path, tensors)


def read_limits(path: Path) -> list[Limits]:
    """The limits in a file; DataError where it is not one."""
    try:
        with safe_open(path, framework="np") as tensors:
            found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        count = len(found) // 2
        return [
            Limits(found[f"{number:03}.divisors"], *found[f"{number:03}.limits"].tolist())
            for number in range(count)
        ]
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read as limits of 8-bit integers ({error}): make the folder again "
            "with rq quantize"
        ) from error


def _limits(lows: Floats, highs: Floats) -> Limits:
    """(texts, width) of least and of largest values → the limits of one activation."""
    largest = np.maximum(highs, -lows).max(axis=0)
    usual = np.quantile(largest, _USUAL)
    divisors = np.maximum(1, largest / max(usual, np.finfo(np.float32).tiny)).astype(np.float32)
    low = min(0.0, float((lows / divisors).min(axis=1).mean()))
    high = max(0.0, float((highs / divisors).max(axis=1).mean()))
    step = max(high - low, float(np.finfo(np.float32).tiny)) / 255
    # 0 must be a byte itself: padding and what a ReLU has cut are exactly that
    zero = round(-low / step)
    return Limits(divisors, -zero * step, (255 - zero) * step)


def _by_source(program: Any) -> list[list[Any]]:
    """The products of activations of tokens with weights; those of one activation together.

    Activations come in the order of the computation, which the model gives, not its export: each
    but the first is computed from the one before.
    """
    groups: dict[tuple[str, int], list[Any]] = {}
    for node in program.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        source, weights = node.input_value(0), node.input_value(1).get_node()
        of_tokens = source.get_partial_shape().rank.get_length() == _STATES
        if of_tokens and weights.get_type_name() == "Constant" and len(weights.shape) == 2:
            key = source.get_node().get_friendly_name(), source.get_index()
            groups.setdefault(key, []).append(node)
    return list(groups.values())


def _weights(product: Any) -> Floats:
    """(outputs, width) float32."""
    values = np.array(product.input_value(1).get_node().data, dtype=np.float32)
    return values if product.get_attributes()["transpose_b"] else values.T


def _rounded(source: Any, limits: Limits) -> Any:
    """``source`` divided, cut and rounded to one of 256 numbers, which is what an engine reads."""
    from openvino import opset13

    divided = source
    if (limits.divisors != 1).any():
        divided = opset13.multiply(source, opset13.constant(1 / limits.divisors[None, None]))
    ends = [opset13.constant(np.float32(end)) for end in (limits.low, limits.high)] * 2
    return opset13.fake_quantize(divided, *ends, 256)


def _integers(product: Any, divisors: Floats) -> Any:
    """The weights of ``product`` as bytes between -127 and 127 times a step for each output."""
    from openvino import opset13

    weights = _weights(product) * divisors
    steps = np.abs(weights).max(axis=1, keepdims=True) / 127
    steps = np.where(steps > 0, steps, 1).astype(np.float32)
    integers = np.rint(weights / steps).astype(np.int8)
    if not product.get_attributes()["transpose_b"]:
        integers, steps = integers.T, steps.T
    kept = opset13.constant(np.ascontiguousarray(integers))
    return opset13.multiply(
        opset13.convert(kept, "f32"), opset13.constant(np.ascontiguousarray(steps))
    )
