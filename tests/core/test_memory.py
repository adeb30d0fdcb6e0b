"""Memory in large pages."""

import gc
import mmap

import pytest
import torch

from wordloom.core.memory import LargePages

CPU = torch.device("cpu")


def test_tensors_stand_side_by_side_and_do_not_share_what_they_hold():
    pages = LargePages()
    a, b = pages.zeros((3, 5), torch.float32, CPU), pages.zeros((7,), torch.bfloat16, CPU)
    a.fill_(1)
    assert not b.any() and a.eq(1).all() and b.shape == (7,) and b.dtype == torch.bfloat16
    if hasattr(mmap, "MADV_HUGEPAGE"):
        assert b.data_ptr() - a.data_ptr() == 64 and a.data_ptr() % 2**21 == 0
    assert a.untyped_storage().nbytes() == 60, "a file of weights would take it for a part of something larger"


def test_a_copy_is_equal_and_its_own():
    kept = LargePages().keep(source := torch.arange(6).view(2, 3).T)
    source[0, 0] = 9
    assert kept.tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("shape", [(), (0, 4), (1,)])
def test_odd_shapes(shape: tuple[int, ...]):
    assert LargePages().zeros(shape, torch.int8, CPU).shape == shape


def test_tensors_outlive_their_pages_and_other_devices_keep_theirs():
    tensor = LargePages().zeros((1024,), torch.int64, CPU)
    gc.collect()
    assert tensor.sum() == 0
    assert LargePages().zeros((2,), torch.int8, torch.device("meta")).device.type == "meta"
    assert LargePages().keep(far := torch.empty(2, device="meta")) is far


def test_a_tensor_larger_than_a_block_gets_one_of_its_own():
    pages = LargePages()
    small, large = pages.zeros((8,), torch.int8, CPU), pages.zeros((100 * 2**20,), torch.int8, CPU)
    large[-1] = 1
    assert not small.any() and large[-1] == 1
