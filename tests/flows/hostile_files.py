"""Files of every kind that can lie among photographs; none of them adds a photograph to the good ones."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SMALL_PX = 200  # of copies of good photographs in odd encodings


def put_hostile_files(folder: Path, good: Sequence[Path]) -> None:
    """At least 120 into a folder below the photographs, and some in system folders, which do not count."""
    folder.mkdir(parents=True)
    for name, content in {**called_pictures(), **damaged(good[0]), **by_header(), **not_read()}.items():
        (folder / name).write_bytes(content)
    for number, (name, content) in enumerate(useless().items()):
        (folder / f"{number:02} {name}").write_bytes(content)
    for number, (name, make) in enumerate(odd_encodings().items()):
        (folder / name).write_bytes(make(small(good[number % len(good)])))
    put_odd_names(folder)
    put_odd_entries(folder)
    for path in good:
        thumbnail = folder / "@eaDir" / path.name / "SYNOPHOTO_THUMB_XL.jpg"
        thumbnail.parent.mkdir(parents=True)
        thumbnail.write_bytes(encoded(small(path)))
        (folder / f"{path.stem}.txt").write_text("what is in the picture")


def encoded(picture: Image.Image, kind: str = "JPEG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **more)
    return buffer.getvalue()


def small(path: Path) -> Image.Image:
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((SMALL_PX, SMALL_PX))
    return picture


def called_pictures() -> dict[str, bytes]:
    """What only the name calls a picture."""
    contents = {
        "text": b"Dear diary, this is no photograph.",
        "empty": b"",
        "html": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        "zip": b"PK\x03\x04" + b"\0" * 40,
        "gzip": zlib.compress(b"\0" * 10_000_000),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(%pipe%touch owned) (w) file\n",
        "program": b"\x7fELF\x02\x01\x01" + b"\0" * 60,
        "nothing": b"\0" * 500,
        "noise": np.random.default_rng(0).bytes(500),
        "pickle": b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.",
    }
    endings = ("jpg", "PNG", "tif", "heic")
    return {f"{name}.{endings[n % 4]}": content for n, (name, content) in enumerate(contents.items())} | {
        f"again {name}.{endings[(n + 1) % 4]}": content for n, (name, content) in enumerate(contents.items())
    }


def damaged(good: Path) -> dict[str, bytes]:
    """Pictures that end too early, or are broken in the middle."""
    picture, files = small(good), {}
    whole = good.read_bytes()
    for at in (2, 3, 4, 20, 160, len(whole) // 4, len(whole) // 2, len(whole) * 3 // 4, len(whole) * 9 // 10):
        files[f"cut at {at}.jpg"] = whole[:at]
    for kind, ending in (("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif"), ("GIF", "gif")):
        content = encoded(picture, kind)
        for share in (0.02, 0.3, 0.7):
            files[f"cut {share}.{ending}"] = content[: int(share * len(content))]
    files["checksum.png"] = encoded(picture, "PNG").replace(b"IDAT", b"IDAX", 1)
    return files


def by_header() -> dict[str, bytes]:
    """Headers that promise more than there is, or than anybody has memory for."""
    huge = bytearray(encoded(Image.new("RGB", (64, 64))))
    frame = huge.index(b"\xff\xc0")
    huge[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    return {
        "60000.png": png(60_000, 60_000, 8, 2),
        "one bit.png": png(30_000, 30_000, 1, 0),
        "negative.png": png(0x7FFFFFFF, 0x7FFFFFFF, 8, 6),
        "no pixels.png": png(0, 10, 8, 2),
        "65535.jpg": bytes(huge),
        "wide.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, *[0] * 6),
        "wide.ppm": b"P6\n100000 100000\n255\n" + b"\0" * 100,
        "endless.tif": b"II*\0" + struct.pack("<I", 8) + struct.pack("<HI", 0xFFFF, 0) * 4,
        "loop.tif": b"II*\0" + struct.pack("<IHI", 8, 0, 8),
    }


def png(width: int, height: int, bits: int, colour: int) -> bytes:
    """A PNG that claims a size and has almost no data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    lines = chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + lines + chunk(b"IEND", b"")


def useless() -> dict[str, bytes]:
    """Whole pictures in which nothing can be found."""
    noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    sizes = ((1, 1), (1, 300), (300, 1), (31, 400), (16, 16), (400, 31))
    found = {f"{w}x{h}.png": encoded(Image.fromarray(noise[:h, :w]), "PNG") for w, h in sizes}
    found["strip.png"] = encoded(Image.fromarray(noise[:34]).resize((1200, 34)), "PNG")
    found |= {
        f"{each}.jpg": encoded(Image.new("RGB", (300, 200), each)) for each in ("black", "white", "red")
    }
    found["glass.png"] = encoded(Image.new("RGBA", (300, 200), (255, 0, 0, 0)), "PNG")
    found["level.png"] = encoded(Image.fromarray(np.full((200, 300), 40_000, np.uint16)), "PNG")
    found["nan.tif"] = encoded(Image.fromarray(np.full((200, 300), np.nan, np.float32)), "TIFF")
    return found


def not_read() -> dict[str, bytes]:
    """RAW, video and pictures of formats that are not read."""
    raw = {f"raw.{each}": b"raw data" for each in ("CR2", "nef", "ARW", "raf", "ORF", "rw2")}
    video = {f"film.{each}": b"" for each in ("mp4", "MOV", "avi", "mkv", "WEBM", "wmv", "3gp")}
    dng = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 50706, 1, 4, 1) + b"\0" * 100
    return {
        **raw,
        **video,
        "canon.CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 100,
        "raw.jpg": dng,
        "film.jpg": b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + b"\0" * 100,
        "broken.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100,
        "broken.avif": b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + b"\0" * 100,
        "new.jxl": b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 100,
        "layers.jpg": b"8BPS\0\1" + b"\0" * 100,
    }


def odd_encodings() -> dict[str, Callable[[Image.Image], bytes]]:
    """Good photographs, smaller, as some program writes them: the same pictures, so duplicates."""
    return {
        "cmyk.jpg": lambda p: encoded(p.convert("CMYK"), quality=95),
        "grey.jpg": lambda p: encoded(p.convert("L"), quality=95),
        "16 bits.png": lambda p: encoded(Image.fromarray(grey(p).astype(np.uint16) * 257), "PNG"),
        "32 bits.tif": lambda p: encoded(Image.fromarray(grey(p).astype(np.int32) * 1000), "TIFF"),
        "float.tif": lambda p: encoded(Image.fromarray(grey(p).astype(np.float32) / 255), "TIFF"),
        "palette.png": lambda p: encoded(p.quantize(256), "PNG"),
        "palette.gif": lambda p: encoded(p.quantize(256), "GIF"),
        "alpha.png": lambda p: encoded(p.convert("RGBA"), "PNG"),
        "grey alpha.png": lambda p: encoded(p.convert("LA"), "PNG"),
        "pages.tif": lambda p: encoded(
            p, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))] * 3
        ),
        "animated.gif": lambda p: encoded(
            p.quantize(256), "GIF", save_all=True, append_images=[p.quantize(16)]
        ),
        "progressive.jpg": lambda p: encoded(p, quality=90, progressive=True),
        "poor.jpg": lambda p: encoded(p, quality=30),
        "lossy.webp": lambda p: encoded(p, "WEBP", quality=60),
        "plain.bmp": lambda p: encoded(p, "BMP"),
        "plain.ppm": lambda p: encoded(p, "PPM"),
        "garbage behind.jpg": lambda p: encoded(p, quality=90) + np.random.default_rng(2).bytes(3000),
        "two in one.jpg": lambda p: encoded(p, quality=90) + encoded(p.rotate(90), quality=90),
        "no ending": lambda p: encoded(p, quality=88),
        "EXIF turned.jpg": turned,
        "EXIF nonsense.jpg": lambda p: encoded(p, exif=b"Exif\0\0nonsense"),
        "EXIF short.jpg": lambda p: encoded(p, exif=b"Exif\0\0II*\0"),
        "EXIF elsewhere.jpg": lambda p: encoded(p, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        "EXIF many.jpg": lambda p: encoded(p, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\0" * 200),
        "EXIF loop.jpg": lambda p: encoded(p, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0"),
    }


def grey(picture: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(picture.convert("L"))


def turned(picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture.transpose(Image.Transpose.ROTATE_90), quality=90, exif=exif)


def put_odd_names(folder: Path) -> None:
    text = b"no picture"
    for name in (
        "new\nline.jpg",
        "\x1b[31mred\x1b]0;title\x07.jpg",
        "\N{GRINNING FACE}.jpg",
        "<b>&'\".jpg",
        "%s%n{}.jpg",
    ):
        (folder / name).write_bytes(text)
    (folder / ("n" * 251 + ".jpg")).write_bytes(text)
    for name in (b"\xff\xfe.jpg", b"\xe9t\xe9.jpg"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(text)


def put_odd_entries(folder: Path) -> None:
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    (folder / "around").symlink_to(folder, target_is_directory=True)
    (folder / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "a folder.jpg").mkdir()
    (folder / "a folder.jpg" / "text.jpg").write_text("no picture")
    (folder / "closed.jpg").write_text("no picture")  # root reads it all the same
    (folder / "closed.jpg").chmod(0)
