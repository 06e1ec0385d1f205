"""The breeds of Oxford-IIIT Pets: official names and numbers, coats, and what sets their heads apart."""

from dataclasses import dataclass

Colour = tuple[int, int, int]  # red, green and blue, 0 to 255
CAT, DOG = 1, 2  # SPECIES in Oxford-IIIT Pets' lists


@dataclass(frozen=True)
class Coat:
    base: Colour
    second: Colour
    pale: Colour
    pattern: str  # plain, tabby, patches, points, saddle or mask


@dataclass(frozen=True)
class Breed:
    """A breed under its official name and numbers, and what sets its head apart from the usual one (1.0)."""

    name: str
    class_id: int  # 1 to 37, case-insensitive alphabetical
    species: int
    breed_id: int  # counted within the species
    ears: str  # pointed, pricked, floppy or folded
    ear_size: float
    muzzle: float
    fluff: float
    eyes: Colour
    coats: tuple[Coat, ...]


GREEN, AMBER, BLUE, BROWN = (134, 160, 84), (204, 152, 58), (104, 160, 212), (74, 46, 28)
WHITE, BLACK, GREY, GINGER = (236, 231, 223), (40, 37, 37), (142, 141, 146), (204, 132, 66)
CREAM, FAWN, TAN = (228, 209, 180), (205, 172, 130), (178, 120, 70)
CHOCOLATE, SEAL = (92, 62, 46), (74, 57, 50)
INK, LIGHT = (20, 14, 14), (250, 248, 244)

RUDDY_COATS = (Coat(TAN, (112, 70, 44), FAWN, "tabby"), Coat((196, 148, 102), (138, 92, 58), CREAM, "tabby"))
LONG_COATS = (
    Coat(GREY, (112, 112, 118), (178, 177, 180), "plain"),
    Coat(CREAM, FAWN, WHITE, "plain"),
    Coat(GINGER, (170, 98, 44), CREAM, "tabby"),
)
BREEDS = (
    Breed("Abyssinian", 1, CAT, 1, "pointed", 1.2, 1.05, 0.2, AMBER, RUDDY_COATS),
    Breed("beagle", 5, DOG, 4, "floppy", 1.1, 1.0, 0.1, BROWN, (Coat(TAN, BLACK, WHITE, "saddle"),)),
    Breed("Persian", 24, CAT, 8, "pointed", 0.7, 0.8, 1.0, AMBER, LONG_COATS),
    Breed("pug", 26, DOG, 18, "folded", 0.85, 0.7, 0.1, BROWN, (Coat(FAWN, BLACK, CREAM, "mask"),)),
    Breed("samoyed", 30, DOG, 20, "pricked", 0.85, 1.0, 1.0, BROWN, (Coat(WHITE, CREAM, WHITE, "plain"),)),
    Breed("Siamese", 33, CAT, 11, "pointed", 1.3, 1.1, 0.1, BLUE, (Coat(CREAM, SEAL, WHITE, "points"),)),
)
# What either species also wears in cats_vs_dogs, where no breed is named.
COMMON_COATS = (
    Coat(BLACK, (24, 22, 22), (74, 70, 70), "plain"),
    Coat(BLACK, WHITE, WHITE, "patches"),
    Coat(WHITE, BLACK, WHITE, "patches"),
    Coat(WHITE, GINGER, WHITE, "patches"),
    Coat(GINGER, (164, 94, 42), CREAM, "tabby"),
    Coat(GREY, (78, 76, 78), (196, 192, 188), "tabby"),
    Coat((134, 112, 88), (66, 52, 42), FAWN, "tabby"),
    Coat(CHOCOLATE, (58, 40, 32), (150, 110, 80), "plain"),
    Coat(FAWN, (160, 124, 84), CREAM, "plain"),
    Coat(GREY, (106, 106, 112), (180, 180, 184), "plain"),
)

# A head's measures in its radii, from its centre. An animal lies between the two or a little beyond.
FACE_OF_CAT_AND_DOG = {
    "cheek": (1.02, 0.84), "jaw": (0.64, 0.58), "chin": (0.86, 1.16), "neck": (0.85, 1.05),
    "eye_x": (0.42, 0.37), "eye_y": (-0.08, -0.16), "eye_width": (0.205, 0.13), "eye_height": (0.165, 0.125),
    "nose_width": (0.11, 0.23), "nose_y": (0.30, 0.44),
    "muzzle_width": (0.40, 0.47), "muzzle_height": (0.25, 0.46), "muzzle_y": (0.46, 0.66),
}  # fmt: skip

# The box around an animal, in radii of its head: left, top, right, bottom; and how often it is seen so.
POSES = {
    "portrait": (-1.5, -1.6, 1.5, 2.0),
    "sitting": (-2.0, -1.7, 2.3, 4.7),
    "lying": (-1.6, -1.6, 5.6, 2.9),
}
POSE_SHARES = (0.45, 0.3, 0.25)
