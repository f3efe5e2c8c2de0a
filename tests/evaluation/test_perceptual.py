"""PSNR and SSIM against scikit-image's values, written down, and against what must hold."""

import pytest
import torch

from remind.errors import InputError
from remind.evaluation.lpips import picture
from remind.evaluation.perceptual import MAX_PSNR_DB, psnr_db, ssim

# scikit-image 0.26, peak_signal_noise_ratio and structural_similarity (settings in the docstring of `ssim`), of
# picture(hw, 2, 3) and: itself 3 px to the right, picture(hw, 5, 1), itself at a third of its levels.
KNOWN = {
    (32, 32): {"shifted": (7.734928, -0.009243), "other": (7.741888, -0.013927), "dark": (8.257906, 0.361031)},
    (48, 80): {"shifted": (12.090975, 0.497016), "other": (7.746541, -0.006102), "dark": (8.260317, 0.368465)},
    (240, 416): {"shifted": (19.542552, 0.868288), "other": (7.747087, 0.231113), "dark": (8.259148, 0.490126)},
}


def changed(hw: tuple[int, int]) -> dict[str, torch.Tensor]:
    first = picture(hw, 2, 3)
    return {"shifted": first.roll(3, 1), "other": picture(hw, 5, 1), "dark": first // 3}


@pytest.mark.parametrize("hw", KNOWN)
def test_psnr_and_ssim_are_those_of_scikit_image(hw: tuple[int, int]) -> None:
    first, others = picture(hw, 2, 3), changed(hw)
    videos = torch.stack([first] * 3), torch.stack([others[name] for name in KNOWN[hw]])
    expected = torch.tensor(list(KNOWN[hw].values()))
    torch.testing.assert_close(psnr_db(*videos), expected[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(ssim(*videos), expected[:, 1], atol=1e-4, rtol=0)


def test_equal_frames_are_as_good_as_can_be_and_frames_are_scored_alone() -> None:
    video = torch.stack([picture((32, 32), 2, 3)] * 3)
    other = video.clone()
    other[1] = 0
    assert psnr_db(video, video).tolist() == [MAX_PSNR_DB] * 3
    assert psnr_db(video, other)[0] == MAX_PSNR_DB > psnr_db(video, other)[1]
    torch.testing.assert_close(ssim(video, other)[[0, 2]], torch.ones(2))


def test_what_cannot_be_compared_is_refused() -> None:
    small = torch.zeros(1, 8, 32, 3, dtype=torch.uint8)
    with pytest.raises(InputError, match="one size"):
        psnr_db(small, small[:, :, :16])
    with pytest.raises(InputError, match="too small for SSIM"):
        ssim(small, small)
    assert len(psnr_db(small[:0], small[:0])) == len(ssim(small[:0].new_zeros(0, 32, 32, 3),
                                                           small[:0].new_zeros(0, 32, 32, 3))) == 0  # fmt: skip
