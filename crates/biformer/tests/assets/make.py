"""Makes the pictures that the image crate cannot write, and what PIL makes of them.

Run: python3 make.py   (Pillow 13.0.0; the results are committed)
"""
import io
import struct
import zlib
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent


def picture(mode, size=24):
    channels = [Image.linear_gradient("L").rotate(90 * i).resize((size, size)) for i in range(len(mode))]
    return Image.merge(mode, channels)


def save(name, data):
    (HERE / name).write_bytes(data)
    return data


def expect(name, data):
    Image.open(io.BytesIO(data)).convert("RGB").save(HERE / name, optimize=True)


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


# Four channels: as Adobe writes them (levels inverted), without Adobe's marker, and as YCCK.
cmyk = save("cmyk_adobe.jpg", encode(picture("CMYK"), "JPEG", quality=90))
adobe = cmyk.index(b"\xff\xee")
length = 2 + struct.unpack(">H", cmyk[adobe + 2 : adobe + 4])[0]
plain = save("cmyk_plain.jpg", cmyk[:adobe] + cmyk[adobe + length :])
ycck = save("ycck.jpg", cmyk[: adobe + length - 1] + b"\x02" + cmyk[adobe + length :])
for name, data in [("cmyk_adobe", cmyk), ("cmyk_plain", plain), ("ycck", ycck)]:
    expect(f"{name}.expected.png", data)

# A palette of red, green and blue, of which green is transparent; columns 0 1 2 0.
palette = Image.new("P", (4, 2))
palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
palette.putdata([0, 1, 2, 0] * 2)
save("palette_alpha.png", encode(palette, "PNG", transparency=1))

save("progressive.jpg", encode(picture("RGB", 48), "JPEG", progressive=True, quality=80))
save("lossy.webp", encode(picture("RGB"), "WEBP", quality=80))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# A header that claims 100,000 x 100,000 pixels, then next to nothing.
header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
pixels = zlib.compress(bytes(1000))
save("bomb.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
