import hashlib
import io
import os

import numpy as np
import pytest
from PIL import Image, ImageFile

from tests.data.pictures import encode, plain, png_of_size
from triptych.data.media import load_image, media_key, resolve_media, verify_file, verify_image
from triptych.errors import DataError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))


def kind_of(function, *args, **options):
    with pytest.raises(DataError) as caught:
        function(*args, **options)
    assert caught.value.remedy
    return caught.value.kind


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_a_picture_from_a_file_equals_the_same_from_bytes(tmp_path, image_format):
    content = encode(plain(), image_format)
    (tmp_path / "a.png").write_bytes(content)
    image = load_image("a.png", tmp_path)
    assert (image.mode, image.size) == ("RGB", (6, 4))
    assert image.tobytes() == load_image(content, tmp_path).tobytes()
    assert np.abs(np.asarray(image).astype(int) - [200, 30, 10]).max() <= 4  # JPEG and WEBP round
    verify_image("a.png", tmp_path)


def test_transparency_is_laid_on_white(tmp_path):
    half_red = encode(plain((255, 0, 0, 128), mode="RGBA"))
    assert load_image(half_red, tmp_path).getpixel((0, 0)) == (255, 127, 127)  # 255 - 128 = 127 of white
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    image = load_image(encode(palette, transparency=1), tmp_path)
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]
    grey = load_image(encode(Image.new("LA", (1, 1), (0, 0))), tmp_path)
    assert grey.getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_and_two_level_pictures_become_rgb(tmp_path):
    cyan = load_image(encode(plain((255, 0, 0, 0), mode="CMYK"), "TIFF"), tmp_path)
    assert cyan.getpixel((0, 0)) == (0, 255, 255)
    assert load_image(encode(Image.new("1", (2, 2), 1)), tmp_path).getpixel((0, 0)) == (255, 255, 255)


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path):
    grey = Image.fromarray(np.array([[0, 257 * 100 + 40, 65535]], dtype=np.uint16))
    for image_format in ("PNG", "TIFF"):
        image = load_image(encode(grey, image_format), tmp_path)
        assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


def test_pixels_without_a_known_range_are_refused(tmp_path):
    for mode in ("F", "I"):
        content = encode(Image.new(mode, (2, 2), 1), "TIFF")
        assert kind_of(load_image, content, tmp_path) == "media_mode"
        assert kind_of(verify_image, content, tmp_path) == "media_mode"


def test_the_exif_orientation_is_applied(tmp_path):
    image = plain(size=(6, 4))
    image.putpixel((0, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise: the top left corner goes to the top right
    turned = load_image(encode(image, exif=exif), tmp_path)
    assert turned.size == (4, 6)
    assert turned.getpixel((3, 0)) == (0, 0, 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_unreadable_exif_counts_as_absent(tmp_path):
    content = encode(plain(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert load_image(content, tmp_path).size == (6, 4)


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [plain(colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for image_format in ("GIF", "PNG"):
        content = encode(frames[0], image_format, save_all=True, append_images=frames[1:])
        assert load_image(content, tmp_path).getpixel((0, 0)) == (255, 0, 0)


def test_paths_that_could_leave_the_root_are_refused(tmp_path):
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(encode(plain()))
    (root / "in" / "a.png").write_bytes(encode(plain()))
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "outside").symlink_to(tmp_path)
    (root / "fine.png").symlink_to(root / "in" / "a.png")
    assert load_image("fine.png", root).size == (6, 4)
    expected = {
        str(tmp_path / "secret.png"): "media_path_absolute",
        "C:\\a.png": "media_path_absolute",
        "\\\\server\\a.png": "media_path_absolute",
        "../secret.png": "media_path_parent",
        "in/../../secret.png": "media_path_parent",
        "in\\..\\..\\secret.png": "media_path_parent",
        "out.png": "media_path_symlink",
        "outside/secret.png": "media_path_symlink",
        "https://example.org/a.png": "media_url",
        "file:///etc/passwd": "media_url",
        "data:image/png;base64,AAAA": "media_url",
        "": "media_missing",
        "in/none.png": "media_missing",
        "in/a.png/b.png": "media_missing",
        "in": "media_not_a_file",
        ".": "media_not_a_file",
        "a\0.png": "media_unreadable",
        "x" * 5000: "media_unreadable",
    }
    for item, kind in expected.items():
        for function in (load_image, verify_image, verify_file, media_key):
            assert kind_of(function, item, root) == kind, item


def test_a_root_whose_name_begins_like_another_is_no_way_out(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "a.png").write_bytes(encode(plain()))
    (tmp_path / "data" / "link").symlink_to(tmp_path / "data2")
    assert kind_of(resolve_media, "link/a.png", tmp_path / "data") == "media_path_symlink"


def test_a_linked_root_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(encode(plain()))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert load_image("a.png", tmp_path / "link").size == (6, 4)


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert kind_of(load_image, "pipe.png", tmp_path) == "media_not_a_file"


@pytest.mark.parametrize("item", [b"", b"GIF8", b"<!DOCTYPE html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(tmp_path, item):
    kinds = {b"": "media_empty", b"GIF8": "media_truncated", b"\x89PNG\r\n\x1a\n": "media_truncated"}
    assert kind_of(load_image, item, tmp_path) == kinds.get(item, "media_not_an_image")
    assert kind_of(verify_image, item, tmp_path) == kinds.get(item, "media_not_an_image")


def test_formats_whose_reader_runs_programs_are_shut_off(tmp_path):
    content = encode(plain(), "EPS")
    assert kind_of(load_image, content, tmp_path) == "media_not_an_image"
    assert kind_of(verify_image, content, tmp_path) == "media_not_an_image"


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_picture_is_found_with_and_without_decoding(tmp_path, image_format, share):
    content = encode(NOISE, image_format)
    (tmp_path / "a").write_bytes(content[: int(len(content) * share)])
    for function, options in ((load_image, {}), (verify_image, {}), (verify_image, {"decode": True})):
        assert kind_of(function, "a", tmp_path, **options) == "media_truncated"


def test_a_whole_picture_with_something_behind_it_is_accepted(tmp_path):
    content = encode(NOISE, "JPEG") + b"\0" * 10_000  # as motion photos have
    verify_image(content, tmp_path)
    assert load_image(content, tmp_path).size == (64, 64)


def test_damage_in_the_middle_is_found_by_decoding(tmp_path):
    content = bytearray(encode(NOISE))
    content[len(content) // 2] ^= 0xFF
    verify_image(bytes(content), tmp_path)
    assert kind_of(verify_image, bytes(content), tmp_path, decode=True) == "media_truncated"


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    small = encode(plain())
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for size in ((9_000, 9_000), (60_000, 60_000)):  # below and above what Pillow itself refuses
        assert kind_of(load_image, png_of_size(*size), tmp_path) == "media_too_large"
    assert kind_of(verify_image, small, tmp_path, max_pixels=23) == "media_too_large"


def test_the_limit_itself_is_allowed(tmp_path):
    assert load_image(encode(plain(size=(6, 4))), tmp_path, max_pixels=24).size == (6, 4)


def test_the_key_is_the_hash_of_the_content_and_follows_it(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    assert media_key("a.png", tmp_path) == hashlib.sha256(b"one").hexdigest()[:16] == media_key(b"one", tmp_path)
    path.write_bytes(b"three")
    assert media_key("a.png", tmp_path) == hashlib.sha256(b"three").hexdigest()[:16]


def test_pillow_is_not_left_holding_files_open(tmp_path):
    (tmp_path / "a.gif").write_bytes(encode(plain(), "GIF"))
    image = load_image("a.gif", tmp_path)
    assert image.copy().tobytes() == image.tobytes()
    assert not isinstance(getattr(image, "fp", None), io.IOBase)
