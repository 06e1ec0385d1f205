"""Cats and dogs as they are drawn: a mixture of breeds, of poses, of scenery and of light."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from samples.breeds import (
    AMBER,
    BREEDS,
    COMMON_COATS,
    DOG,
    FACE_OF_CAT_AND_DOG,
    GREEN,
    INK,
    LIGHT,
    POSE_SHARES,
    POSES,
    Breed,
    Coat,
    Colour,
)
from samples.shapes import (
    DRAWING_SIDE,
    Corners,
    Random,
    any_colour,
    blob,
    both_sides,
    mixed,
    rounded,
    texture,
    textured,
    whole_colour,
)


@dataclass(frozen=True)
class Placement:
    """Where the animal's head is in the drawing, in pixels, and how it is tilted and turned."""

    x: float
    y: float
    radius: float
    degrees: float
    mirrored: bool

    def pixels(self, points: np.ndarray, per_pixel: float = 1) -> list[float]:
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        flip = -1 if self.mirrored else 1
        matrix = self.radius * np.array([[flip * cos, sin], [flip * -sin, cos]])
        return ((points @ matrix + (self.x, self.y)) * per_pixel).ravel().tolist()


class FurLayer:
    """A body or a head: colours at half the resolution, which softens them, and a mask that the fur frays."""

    def __init__(self, size: tuple[int, int], place: Placement, base: Colour):
        self.place, self.base = place, base
        self.mask = Image.new("L", size)
        self.colours = Image.new("RGB", (size[0] // 2, size[1] // 2), base)
        self.mask_pen, self.colour_pen = ImageDraw.Draw(self.mask), ImageDraw.Draw(self.colours)

    def grow(self, outline: np.ndarray, colour: Colour | None = None) -> None:
        """Add a part of the animal."""
        self.mask_pen.polygon(self.place.pixels(outline), fill=255)
        self.dye(outline, colour or self.base)

    def dye(self, outline: np.ndarray, colour: Colour) -> None:
        """Colour what is there already; beside the animal nothing shows."""
        self.colour_pen.polygon(self.place.pixels(outline, 0.5), fill=colour)

    def lay_on(self, scene: Image.Image, pet: Image.Image, fur: Image.Image, fluff: float, light: float) -> None:
        """Shade and fray this layer and lay it on `scene`, its mask on `pet`; `light` comes from -1 to 1."""
        if not (box := self.mask.getbbox()):
            return
        radius = self.place.radius
        margin = int(radius * 0.15) + 2
        width, height = self.mask.size
        left, top = (max(0, side - margin) // 2 * 2 for side in box[:2])
        right, bottom = min(width, box[2] + margin) // 2 * 2, min(height, box[3] + margin) // 2 * 2
        box = (left, top, right, bottom)
        mask, fur = self.mask.crop(box), fur.crop(box)
        colours = self.colours.crop((left // 2, top // 2, right // 2, bottom // 2))

        # The blurred mask is taken for the height of a relief that the light falls on.
        small = mask.resize([max(4, round(side * 8 / radius)) for side in mask.size], Image.Resampling.BOX)
        relief = np.asarray(small.filter(ImageFilter.GaussianBlur(3)), np.float32) / 255
        slope_y, slope_x = np.gradient(relief)
        shade = np.clip(0.62 + 0.38 * relief - 1.6 * (light * slope_x - 0.7 * slope_y), 0.3, 1)
        lit = Image.fromarray((shade * 255).astype(np.uint8)).resize(colours.size, Image.Resampling.BILINEAR)
        colours = colours.filter(ImageFilter.BoxBlur(radius / 40))
        colours = ImageChops.multiply(colours, Image.merge("RGB", [lit] * 3))
        colours = textured(colours.resize(mask.size, Image.Resampling.BILINEAR), fur, 0.7 + 0.5 * fluff)
        soft_mask = mask.filter(ImageFilter.BoxBlur(radius * (0.03 + 0.07 * fluff)))
        fray = fur.point([round(128 + (value - 128) * 0.6) for value in range(256)])  # reaches no clear pixel
        frayed = ImageChops.add(soft_mask, fray, offset=-128).point(
            [min(255, max(0, (value - 96) * 4)) for value in range(256)]
        )
        scene.paste(colours, box, frayed)
        pet.paste(255, box, frayed)


@dataclass(frozen=True)
class Animal:
    """One individual; `face` holds its measures, `turn` (-1 to 1) how far it looks sideways."""

    is_dog: bool
    coat: Coat
    ears: str
    ear_size: float
    face: dict[str, float]
    fluff: float
    girth: float
    eyes: Colour
    slit_pupils: bool
    tongue: bool
    looks_away: bool
    turn: float
    pose: str


def born(rng: Random, breed: Breed, mongrel: bool) -> Animal:
    """An animal of a breed. Mongrels may wear any coat; some have the other species' ears or face."""
    is_dog = breed.species == DOG
    coats, ears = breed.coats, breed.ears
    if mongrel and rng.random() < 0.5:
        coats = COMMON_COATS
    if mongrel and rng.random() < 0.12:
        ears = "pricked" if is_dog else "folded"
    coat = coats[rng.integers(len(coats))]
    tint = rng.normal(0, 7, 3) + rng.normal(0, 9)
    base, second, pale = (whole_colour(np.add(colour, tint)) for colour in (coat.base, coat.second, coat.pale))
    dogness = float(is_dog) + rng.normal(0, 0.1)
    if mongrel and rng.random() < 0.1:
        dogness = rng.uniform(0.3, 0.7)
    face = {name: cat + (dog - cat) * dogness for name, (cat, dog) in FACE_OF_CAT_AND_DOG.items()}
    face["cheek"] += 0.1 * breed.fluff
    for name, share in {"chin": 0.4, "muzzle_height": 1.0, "muzzle_y": 0.4}.items():
        face[name] *= 1 + (breed.muzzle - 1) * share
    return Animal(
        is_dog=is_dog,
        coat=Coat(base, second, pale, coat.pattern),
        ears=ears,
        ear_size=breed.ear_size * rng.normal(1, 0.08),
        face={name: measure * rng.normal(1, 0.04) for name, measure in face.items()},
        fluff=float(np.clip(breed.fluff + rng.normal(0, 0.1), 0, 1.1)),
        girth=rng.normal(1.05 if is_dog else 0.95, 0.08) + 0.12 * breed.fluff,
        eyes=breed.eyes if is_dog or rng.random() < 0.5 else (GREEN, AMBER)[rng.integers(2)],
        slit_pupils=not is_dog and rng.random() < 0.5,
        tongue=is_dog and rng.random() < 0.3,
        looks_away=rng.random() < 0.03,
        turn=float(np.clip(rng.normal(0, 0.45), -1, 1)),
        pose=str(rng.choice(list(POSES), p=POSE_SHARES)),
    )


def draw_body(layer: FurLayer, animal: Animal, rng: Random) -> None:
    coat, base, girth, neck = animal.coat, layer.base, animal.girth, animal.face["neck"]
    shadow = mixed(base, INK, 0.45)
    leg = {"points": coat.second, "saddle": coat.pale}.get(coat.pattern, base)
    tail: Corners = []
    if animal.pose == "portrait":
        trunk = both_sides([(0, 0.2), (neck * 0.8, 0.5), (1.3 * girth, 1.7), (1.7 * girth, 4.0)])
    elif animal.pose == "sitting":
        tail = [(1.0, 4.2), (1.7, 4.2), (2.1, 3.5), (1.9, 2.6 if animal.is_dog else 2.2)]
        waist = [(girth, 1.8), (1.3 * girth, 3.1), (1.25 * girth, 4.2)]
        trunk = both_sides([(0, 0.2), (neck * 0.75, 0.7), *waist, (0, 4.4)])
    else:
        tail = [(4.2, 2.2), (4.8, 2.5), (5.2, 2.3), (5.3, 1.6)]
        back = [(0.2, 0.2), (1.2, 0.35), (2.6, 0.25), (4.0, 0.6), (4.8, 1.6)]
        trunk = rounded([*back, (4.4, 2.6), (2.5, 2.75), (0.5, 2.7), (-0.5, 2.2), (-0.6, 1.0)])
    tail_width = (0.2 if animal.is_dog else 0.17) * (1 + 0.9 * animal.fluff)
    for x, y in rounded([*tail, *tail[-2:0:-1]])[:19] if tail else ():
        layer.grow(blob(x, y, tail_width, tail_width), coat.second if coat.pattern == "points" else base)
    layer.grow(trunk)
    dye_body(layer, animal, rng)

    if animal.pose == "sitting":
        for side in (-1, 1):
            layer.dye(blob(side * 1.02 * girth, 3.75, 0.5, 0.62), mixed(base, shadow, 0.35))
            layer.dye(blob(side * 1.05 * girth, 3.65, 0.46, 0.58), mixed(base, coat.pale, 0.15))
        layer.dye(blob(0, 3.5, 0.62, 1.1), shadow)
        for side in (-1, 1):
            corners = [(0.15, 2.3), (0.75, 2.3), (0.66, 4.2), (0.14, 4.2)]
            layer.grow(rounded([(side * x, y) for x, y in corners]), leg)
            layer.grow(blob(side * 0.42, 4.38, 0.36, 0.2), mixed(leg, coat.pale, 0.4))
    elif animal.pose == "lying":
        layer.dye(blob(3.8, 1.85, 1.0, 0.95), shadow)
        layer.dye(blob(3.85, 1.8, 0.92, 0.9), base)
        for x, y in ((0.5, 2.6), (-0.5, 2.65), (3.2, 2.7)):
            layer.grow(blob(x, y, 0.95, 0.27, 4), mixed(leg, shadow, 0.3))
            layer.grow(blob(x, y - 0.05, 0.9, 0.2, 4), leg)
    for depth in (0.1, 0.25, 0.4):  # the head's shadow on the chest
        layer.dye(blob(0, animal.face["chin"] * 0.8, 0.95 - depth, 0.6 - depth), mixed(base, INK, depth))


def dye_body(layer: FurLayer, animal: Animal, rng: Random) -> None:
    coat, (_, _, right, bottom) = animal.coat, POSES[animal.pose]
    upright = animal.pose in ("portrait", "sitting")
    if coat.pattern == "tabby":
        stripe = mixed(layer.base, coat.second, rng.uniform(0.5, 1))
        for at in np.arange(0.9, (bottom if upright else right) - 0.3, rng.uniform(0.3, 0.45)):
            tilt, length = rng.uniform(-12, 12), rng.uniform(0.35, 0.75)
            if not upright:
                layer.dye(blob(at, 0.7, 0.08, length, tilt), stripe)
            for side in (-1, 1) if upright else ():
                layer.dye(blob(side * 1.05, at, length, 0.07, side * 18 + tilt), stripe)
    elif coat.pattern == "patches":
        for _ in range(rng.integers(3, 7)):
            x, y = rng.uniform(-1.2 if upright else 0, right), rng.uniform(0.8, bottom)
            wide, high, degrees = rng.uniform((0.3, 0.3, 0), (0.9, 0.9, 90))
            layer.dye(blob(x, y, wide, high, degrees), coat.second)
    elif coat.pattern == "saddle":
        layer.dye(blob(0, 2.4, 0.6, 1.8) if upright else blob(1.8, 2.4, 3.0, 0.7), coat.pale)
        for x in (-1.3, 1.3) if upright else (2.8,):
            layer.dye(blob(x, 2.2, 0.4, 1.0) if upright else blob(x, 0.6, 1.6, 0.7), coat.second)
    else:
        chest = blob(0, 2.0, 0.5, 1.1) if upright else blob(2.2, 2.3, 1.6, 0.4)
        layer.dye(chest, mixed(layer.base, coat.pale, 0.7))


def draw_ear(layer: FurLayer, animal: Animal, side: int) -> None:
    coat, size = animal.coat, animal.ear_size
    colour = coat.second if coat.pattern in ("points", "mask") else layer.base
    inside = mixed(colour, (214, 150, 140) if animal.ears in ("pointed", "pricked") else INK, 0.4)
    tip = -0.82 - 0.62 * size
    outer, inner = {
        "pointed": (
            [(0.2, -0.7), (0.74, tip), (0.98, -0.2)],
            [(0.42, -0.7), (0.73, tip + 0.2), (0.86, -0.4)],
        ),
        "pricked": (
            [(0.18, -0.72), (0.48, tip + 0.15), (0.62, tip), (0.76, tip + 0.2), (0.86, -0.3)],
            [(0.36, -0.72), (0.58, tip + 0.22), (0.74, -0.5)],
        ),
        "folded": (
            [(0.25, -0.82), (0.62, -1.12), (1.0, -0.6), (0.9, -0.3)],
            [(0.35, -0.78), (0.98, -0.6), (0.86 * size, -0.1)],
        ),
        "floppy": (
            [(0.5, -0.82), (0.95, -0.62), (1.22, 0.0), (1.1, 0.65 * size), (0.86, 0.7 * size), (0.65, -0.2)],
            [(0.66, -0.5), (0.78, -0.4), (0.9, 0.52 * size), (0.76, 0.4 * size)],
        ),
    }[animal.ears]
    lean = side * (1 - 0.25 * side * animal.turn)  # the far ear is narrower
    for grow_or_dye, corners, fill in ((layer.grow, outer, colour), (layer.dye, inner, inside)):
        outline = [(lean * x, y) for x, y in corners]
        grow_or_dye(np.array(outline) if animal.ears == "pointed" else rounded(outline), fill)


def draw_head(layer: FurLayer, animal: Animal, rng: Random) -> None:
    """Ears, skull, muzzle and the coat's pattern; eyes, nose and mouth come afterwards and stay sharp."""
    face, coat, base = animal.face, animal.coat, layer.base
    dark_face = coat.pattern in ("points", "mask")
    muzzle_y, wide, high = face["muzzle_y"], face["muzzle_width"], face["muzzle_height"]
    x = 0.28 * animal.turn
    hanging = animal.ears == "floppy"
    for side in () if hanging else (-1, 1):
        draw_ear(layer, animal, side)
    jaw = [(face["cheek"], 0.2), (face["jaw"], face["chin"] * 0.72), (0, face["chin"])]
    layer.grow(both_sides([(0, -0.86), (0.55, -0.74), (0.86, -0.3), *jaw]))
    if coat.pattern == "tabby":
        for start in (-0.36, -0.12, 0.12, 0.36):
            layer.dye(blob(start + x, -0.62, 0.05, 0.24, start * 40), coat.second)
        for side, y in ((-1, 0.1), (-1, 0.32), (1, 0.1), (1, 0.32)):
            layer.dye(blob(side * 0.78 + x, y, 0.26, 0.045, side * 14), coat.second)
    elif coat.pattern == "patches":
        layer.dye(blob(rng.choice([-0.55, 0.55]), -0.4, *rng.uniform(0.4, 0.8, 2)), coat.second)
    elif coat.pattern == "saddle":
        layer.dye(rounded([(x - 0.1, -0.9), (x + 0.1, -0.9), (x + 0.3, 0.3), (x - 0.3, 0.3)]), coat.pale)
    elif dark_face:
        layer.dye(blob(x, muzzle_y - 0.05, 0.62, 0.6), mixed(base, coat.second, 0.6))
        layer.dye(blob(x, muzzle_y, 0.48, 0.45), coat.second)
    muzzle = coat.second if dark_face else mixed(base, coat.pale, 0.75)
    reach = x * (1 + high)
    layer.dye(blob(reach, muzzle_y + 0.06, wide * 1.08, high * 1.08), mixed(muzzle, INK, 0.35))
    for side in (-1, 1):
        layer.grow(blob(reach + side * wide * 0.45, muzzle_y, wide * 0.58, high), muzzle)
        eye_width, eye_height = face["eye_width"] * 1.35, face["eye_height"] * 1.4
        layer.dye(blob(side * face["eye_x"] + x, face["eye_y"], eye_width, eye_height), mixed(base, INK, 0.45))
    for side in (-1, 1) if hanging else ():
        draw_ear(layer, animal, side)


def draw_features(scene: Image.Image, place: Placement, animal: Animal, rng: Random) -> None:
    """Eyes, nose, mouth, tongue and whiskers, on `scene`."""
    face, x = animal.face, 0.28 * animal.turn
    pen, line_width = ImageDraw.Draw(scene), max(1, round(place.radius / 32))
    reach, muzzle_y = x * (1 + face["muzzle_height"]), face["muzzle_y"]

    def fill(outline: np.ndarray, colour: Colour) -> None:
        pen.polygon(place.pixels(outline), fill=colour)

    def line(points: Corners, colour: Colour, width: int) -> None:
        pen.line(place.pixels(np.array(points)), colour, width, joint="curve")

    eye_y, wide, high = face["eye_y"], face["eye_width"], face["eye_height"]
    pupil = 0.3 if animal.slit_pupils else rng.uniform(0.55, 0.85)
    gaze_x, gaze_y = rng.uniform(-0.2, 0.2, 2) * (wide, high)
    for side in (-1, 1):
        eye_x, slant = side * face["eye_x"] + x, -side * (4 if animal.is_dog else 14)
        fill(blob(eye_x, eye_y, wide * 1.16, high * 1.16, slant), INK)
        fill(blob(eye_x, eye_y, wide, high, slant), mixed(animal.eyes, INK, 0.3))
        fill(blob(eye_x, eye_y + high * 0.1, wide * 0.8, high * 0.8, slant), animal.eyes)
        ball_x, ball_y = eye_x + gaze_x, eye_y + gaze_y
        fill(blob(ball_x, ball_y, high * pupil, high * (0.95 if animal.slit_pupils else pupil)), INK)
        fill(blob(ball_x - high * 0.3, ball_y - high * 0.35, high * 0.2, high * 0.2), LIGHT)

    mouth_y = muzzle_y + face["muzzle_height"] * 0.45
    if animal.tongue:
        fill(blob(reach, mouth_y + 0.16, 0.24, 0.12), (70, 28, 32))
        fill(blob(reach, mouth_y + 0.34, 0.17, 0.26), (216, 112, 118))
    nose_x, nose_y, nose = 1.1 * reach, face["nose_y"], face["nose_width"]
    line([(nose_x, nose_y), (reach, mouth_y)], INK, line_width)
    for corner_x in (-0.36, 0.36):
        corner = [(reach + corner_x * 0.45, mouth_y + 0.08), (reach + corner_x, mouth_y)]
        line([(reach, mouth_y), *corner], INK, line_width)
    dark_nose = animal.is_dog or animal.coat.pattern == "points" or rng.random() < 0.3
    nose_colour = (34, 28, 30) if dark_nose else (204, 132, 128)
    nose_outline = both_sides([(0, nose * -0.7), (nose, nose * -0.5), (0, nose * 0.8)])
    fill(np.add(nose_outline, (nose_x, nose_y)), nose_colour)
    gleam = blob(nose_x - nose * 0.3, nose_y - nose * 0.35, nose * 0.28, nose * 0.14)
    fill(gleam, mixed(nose_colour, LIGHT, 0.45))
    for _ in range(rng.integers(0, 3) if animal.is_dog else rng.integers(5, 9)):
        for side in (-1, 1):
            root_y, tip_y = muzzle_y + rng.uniform(-0.1, 0.1), muzzle_y + rng.uniform(-0.35, 0.45)
            middle, tip = rng.uniform(0.5, 0.7), rng.uniform(0.85, 1.35)
            bow = [(0.25, root_y), (middle, (root_y + tip_y) / 2 - 0.06), (tip, tip_y)]
            line([(reach + side * x, y) for x, y in bow], (232, 230, 226), max(1, line_width // 2))


def draw_scenery(rng: Random, size: tuple[int, int]) -> Image.Image:
    """What is behind the animal, more or less out of focus."""
    width, height = size[0] // 2, size[1] // 2
    kind = str(rng.choice(["grass", "boards", "sofa", "wall", "clutter"]))
    horizon = int(height * rng.uniform(0.15, 0.7))
    ground = any_colour(rng)
    image = Image.new("RGB", (width, height), any_colour(rng, 15))
    pen = ImageDraw.Draw(image)
    if kind == "grass":
        ground = mixed((112, 142, 56), (64, 98, 46), rng.random())
        pen.rectangle((0, 0, width, horizon), mixed((150, 185, 220), (52, 82, 44), rng.random()))
        for _ in range(8):
            bush = blob(rng.uniform(0, width), rng.uniform(0, horizon), *rng.uniform(8, 40, 2))
            pen.polygon(bush.ravel().tolist(), mixed((40, 70, 36), ground, rng.random()))
    elif kind == "boards":
        ground = mixed((196, 152, 104), (84, 56, 40), rng.random())
    pen.rectangle((0, horizon, width, height), ground)
    if kind == "boards":
        vanishing_x = rng.uniform(0, width)
        for x in np.linspace(-width, 2 * width, int(rng.integers(10, 24))):
            top_x = vanishing_x + (x - vanishing_x) * 0.3
            pen.line((top_x, horizon, x, height), mixed(ground, INK, 0.55), 2)
        pen.rectangle((0, horizon - 6, width, horizon), mixed(ground, LIGHT, 0.6))
    elif kind == "sofa":
        seat = (horizon + height) // 2
        for x in np.arange(-20, width, width / rng.integers(2, 4)):
            cushion = (x, horizon + 8, x + width / 2, seat)
            pen.rounded_rectangle(cushion, 14, mixed(ground, LIGHT, 0.12), mixed(ground, INK, 0.4))
        pen.rectangle((0, seat, width, seat + 8), mixed(ground, INK, 0.45))
    elif kind == "clutter":
        for _ in range(rng.integers(10, 28)):
            thing = blob(rng.uniform(0, width), rng.uniform(0, height), *rng.uniform(6, 45, 2))
            pen.polygon(thing[:: int(rng.choice([1, 7]))].ravel().tolist(), any_colour(rng, 45))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 5)))
    grain = texture(rng, {"grass": "fur", "boards": "wood"}.get(kind, "grain"), image.size)
    strength = rng.uniform(0.2, 0.5) + (0.5 if kind == "grass" else 0)
    return textured(image, grain, strength).resize(size, Image.Resampling.BILINEAR)


def cast_shadow(scene: Image.Image, body: Image.Image, rng: Random) -> None:
    """The animal's soft shadow on what is behind it, on `scene`."""
    small = body.resize((scene.width // 8, scene.height // 8), Image.Resampling.BOX)
    small = ImageChops.offset(small, int(rng.integers(-4, 5)), int(rng.integers(0, 4)))
    soft = small.filter(ImageFilter.GaussianBlur(3)).point([value // 2 for value in range(256)])
    scene.paste(INK, (0, 0), soft.resize(scene.size, Image.Resampling.BILINEAR))


def draw_foreground(scene: Image.Image, pet: Image.Image, rng: Random) -> None:
    """At times a fence, a mesh, a toy or a blanket before the animal: on `scene`, and taken out of `pet`."""
    kind = str(rng.choice(["nothing", "bars", "mesh", "toy", "blanket"], p=[0.74, 0.08, 0.05, 0.08, 0.05]))
    if kind == "nothing":
        return
    width, height = scene.size
    cover, light = Image.new("L", scene.size), Image.linear_gradient("L")
    pen = ImageDraw.Draw(cover)
    if kind == "bars":
        thick = int(rng.integers(6, 20))
        for x in range(int(rng.integers(0, 40)), width, thick * int(rng.integers(3, 6))):
            pen.rectangle((x, 0, x + thick, height), 255)
    elif kind == "mesh":
        for x in range(-height, width + height, int(rng.integers(30, 60))):
            pen.line((x, 0, x + height, height), 255, 3)
            pen.line((x, height, x + height, 0), 255, 3)
    elif kind == "toy":
        radius, light = rng.uniform(0.08, 0.22) * width, ImageChops.invert(Image.radial_gradient("L"))
        ball = blob(rng.uniform(0.2, 0.8) * width, rng.uniform(0.45, 0.9) * height, radius, radius)
        pen.polygon(ball.ravel().tolist(), 255)
    else:
        left_y, right_y = rng.uniform(0.4, 0.8) * height + rng.uniform(-50, 50, 2)
        pen.polygon((0, left_y, width, right_y, width, height, 0, height), 255)
    light = light.resize(scene.size).point([110 + value // 2 for value in range(256)])
    thing = Image.new("RGB", scene.size, any_colour(rng, 45))
    thing = ImageChops.multiply(thing, Image.merge("RGB", [light] * 3))
    cover = cover.filter(ImageFilter.BoxBlur(1))
    scene.paste(textured(thing, texture(rng, "grain", scene.size), 0.4), (0, 0), cover)
    pet.paste(0, (0, 0), cover)


def photograph(scene: Image.Image, rng: Random, size: tuple[int, int]) -> Image.Image:
    """Light, lens and sensor: vignette, soft shadows, colour temperature, exposure, blur and noise."""
    y, x = np.mgrid[-1:1:12j, -1:1:16j]
    slope_x, slope_y = rng.uniform(-0.25, 0.25, 2)
    gain = 1 - rng.uniform(0, 0.2) * (x**2 + y**2) + slope_x * x + slope_y * y
    if rng.random() < 0.15:  # dappled
        gain *= 1 - rng.uniform(0.2, 0.5) * (rng.random(gain.shape) < 0.4)
    light = Image.fromarray(np.clip(gain * 170, 0, 255).astype(np.uint8))
    light = light.resize(scene.size, Image.Resampling.BICUBIC)
    scene = ImageChops.multiply(scene, Image.merge("RGB", [light] * 3))
    image = scene.resize(size, Image.Resampling.BICUBIC)
    dark = rng.random() < 0.08
    exposure, haze = rng.uniform(0.26, 0.45) if dark else rng.uniform(0.75, 1.25), rng.uniform(0, 20)
    gamma, warmth = rng.uniform(0.85, 1.2), rng.normal(0, 0.08)
    curve = [
        min(255, round(haze + (255 - haze) * (exposure * tint * value / 170) ** gamma))
        for tint in (1 + warmth, 1, 1 - warmth)
        for value in range(256)
    ]
    image = image.point(curve)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 2)))
    strength = rng.uniform(0.05, 0.35) * (2.5 if dark else 1)
    noise_curve = [round(128 + (value - 128) * strength) for value in range(256)]
    return ImageChops.add(image, texture(rng, "sensor", size).point(noise_curve * 3), offset=-128)


def draw_mongrel(rng: Random, species: int) -> tuple[Image.Image, Image.Image]:
    breeds = [breed for breed in BREEDS if breed.species == species]
    return draw_photo(rng, breeds[rng.integers(len(breeds))], mongrel=True)


def draw_photo(rng: Random, breed: Breed, mongrel: bool = False) -> tuple[Image.Image, Image.Image]:
    """One photo, uint8 RGB [height, width, 3], and its animal, uint8 [height, width] (255 animal, 0 not)."""
    animal = born(rng, breed, mongrel)
    left, top, right, bottom = POSES[animal.pose]
    upright = rng.random() < {"portrait": 0.4, "sitting": 0.6}.get(animal.pose, 0.08)
    short_side = int(DRAWING_SIDE * rng.uniform(0.62, 0.95))
    size = (short_side, DRAWING_SIDE) if upright else (DRAWING_SIDE, short_side)
    radius = min(size[0] / (right - left), size[1] / (bottom - top)) * rng.uniform(0.75, 1.12)
    middle = np.array([left + right, top + bottom]) / 2
    if rng.random() < 0.07:  # an extreme crop: a part of the face, or none of it
        radius *= rng.uniform(1.5, 2.4)
        middle = rng.uniform((-0.8, -0.6), (1.2, 1.4))
    mirrored = bool(rng.random() < 0.5)
    x, y = size / np.array(2) - radius * middle * (-1 if mirrored else 1, 1) + rng.normal(0, 0.03, 2) * size
    body_place = Placement(x, y, radius, rng.normal(0, 4), mirrored)
    head_place = Placement(x, y, radius, body_place.degrees + rng.normal(0, 9), mirrored)

    scene, pet = draw_scenery(rng, size), Image.new("L", size)
    fur, light = texture(rng, "fur", size), rng.uniform(-1, 1)
    body, head = (FurLayer(size, place, animal.coat.base) for place in (body_place, head_place))
    draw_body(body, animal, rng)
    cast_shadow(scene, body.mask, rng)
    body.lay_on(scene, pet, fur, animal.fluff, light)
    draw_head(head, animal, rng)
    head.lay_on(scene, pet, ImageChops.offset(fur, 97, 61), animal.fluff, light)
    if not animal.looks_away:
        draw_features(scene, head_place, animal, rng)
    draw_foreground(scene, pet, rng)

    width = round(rng.triangular(150, 320, 640) * (0.75 if upright else 1))
    photo_size = (max(150, width), round(max(150, width) * size[1] / size[0]))
    return photograph(scene, rng, photo_size), pet.resize(photo_size, Image.Resampling.BILINEAR)
