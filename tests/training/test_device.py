"""What a processor refuses in a sentence, and the loss scale of fp16."""

import pytest

from rocketrank.backbone import paddle_module
from rocketrank.errors import UsageError
from rocketrank.training.device import LossScale, prepare_device
from rocketrank.training.recipe_values import Precision

paddle = paddle_module()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_processor_refuses_half_precision_in_a_sentence(precision: Precision) -> None:
    expected = f"precision is {precision}, but Paddle multiplies on a CPU in fp32 only: write fp32"
    with pytest.raises(UsageError, match=f"^{expected}$"):
        prepare_device("cpu", precision)


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_a_processor_trains_in_fp32(precision: Precision) -> None:
    assert prepare_device("cpu", precision) == "fp32"
    assert paddle.get_device() == "cpu"


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="this build of Paddle has a GPU")
def test_a_gpu_that_paddle_was_not_built_for_is_refused_in_a_sentence() -> None:
    before = paddle.get_device()
    with pytest.raises(UsageError, match=r"--device gpu: this build of PaddlePaddle has no GPU"):
        prepare_device("gpu", "auto")
    assert paddle.get_device() == before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_fp16_scales_its_loss(precision: str) -> None:
    scale = LossScale(precision)
    for finite in (True, False, True):
        scale.update(finite)
        assert scale.factor == 1.0


def test_the_scale_is_halved_when_a_gradient_is_not_finite_but_never_below_one() -> None:
    scale = LossScale("fp16")
    factors = []
    for _ in range(17):
        scale.update(False)
        factors.append(scale.factor)
    assert factors[:3] == [16384.0, 8192.0, 4096.0]
    assert factors[14:] == [1.0, 1.0, 1.0]


def test_the_scale_is_doubled_after_two_thousand_good_steps_in_a_row() -> None:
    scale = LossScale("fp16")
    for _ in range(1999):
        scale.update(True)
    scale.update(False)
    assert scale.factor == 16384.0
    for _ in range(1999):
        scale.update(True)
    assert scale.factor == 16384.0
    scale.update(True)
    assert scale.factor == 32768.0
    for _ in range(2000):
        scale.update(True)
    assert scale.factor == 65536.0


def test_a_restored_scale_goes_on_where_it_was() -> None:
    scale = LossScale("fp16")
    for finite in (False, True, True):
        scale.update(finite)
    resumed = LossScale("fp16")
    resumed.restore(scale.state())
    for _ in range(1998):
        resumed.update(True)
    assert (scale.factor, resumed.factor) == (16384.0, 32768.0)
