// Many points on a canvas in a few milliseconds: each is a small stamp that is blended into one array of pixels.
const SHAPES = [  // circles, squares, triangles; all of about the same area
  (x, y, r) => x * x + y * y <= r * r,
  (x, y, r) => Math.max(Math.abs(x), Math.abs(y)) <= 0.9 * r,
  (x, y, r) => y <= r && y >= -1.2 * r && Math.abs(x) <= (y + 1.2 * r) / 2.2 * 1.1,
];
const OPACITY = 0.85;

function stampOf(inside, radius) {  // which pixels around a point it covers, and how much of each (0 to 256)
  const reach = Math.ceil(1.3 * radius), fine = [-0.375, -0.125, 0.125, 0.375], x = [], y = [], cover = [];
  for (let row = -reach; row <= reach; row++) for (let column = -reach; column <= reach; column++) {
    let part = 0;
    for (const dy of fine) for (const dx of fine) part += inside(column + dx, row + dy, radius) ? 1 / 16 : 0;
    if (part > 0) { x.push(column); y.push(row); cover.push(Math.round(256 * OPACITY * part)); }
  }
  return {x: Int32Array.from(x), y: Int32Array.from(y), cover: Int32Array.from(cover), reach};
}

// Colours are [red, green, blue]. `place(i, at)` writes a point's pixel into at[0] and at[1]; `look(i)` is its colour's number, -1: not drawn.
function rasterise(image, paper, radius, colours, shapeOf, points, place, look) {
  const {width, height} = image, pixels = new Uint32Array(image.data.buffer), at = [0, 0];
  const stamps = SHAPES.map(inside => stampOf(inside, radius));
  pixels.fill((255 << 24 | paper[2] << 16 | paper[1] << 8 | paper[0]) >>> 0);
  for (let i = 0; i < points; i++) {
    const id = look(i);
    if (id < 0) continue;
    place(i, at);
    const left = Math.round(at[0]), top = Math.round(at[1]), stamp = stamps[shapeOf(id)], {reach} = stamp;
    if (left < -reach || top < -reach || left >= width + reach || top >= height + reach) continue;
    const [red, green, blue] = colours[id], within = left >= reach && top >= reach && left < width - reach && top < height - reach;
    for (let k = 0; k < stamp.cover.length; k++) {
      const x = left + stamp.x[k], y = top + stamp.y[k];
      if (!within && (x < 0 || y < 0 || x >= width || y >= height)) continue;
      const cell = y * width + x, below = pixels[cell], cover = stamp.cover[k], rest = 256 - cover;
      const r = red * cover + (below & 255) * rest >> 8, g = green * cover + (below >> 8 & 255) * rest >> 8;
      const b = blue * cover + (below >> 16 & 255) * rest >> 8;
      pixels[cell] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    }
  }
}
