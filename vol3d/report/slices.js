// Slices to scroll through in three planes: see slices.py, which writes what is read here.
// Voxels are [X, Y, Z], RAS+; a layer's voxels come as one picture of all axial slices, in rows of tiles.
"use strict";

const PLANES = [
  { name: "axial", across: 0, up: 1, through: 2, sides: "LR" },
  { name: "coronal", across: 0, up: 2, through: 1, sides: "LR" },
  { name: "sagittal", across: 1, up: 2, through: 0, sides: "PA" },
];

async function voxelsOf(uri, shape, columns) {
  const picture = new Image();
  await new Promise((loaded, failed) => {
    picture.onload = loaded;
    picture.onerror = () => failed(new Error("its voxels cannot be read"));
    picture.src = uri;
  });
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0);
  const [X, Y, Z] = shape;
  const pixels = pen.getImageData(0, 0, picture.width, picture.height).data;
  const voxels = new Uint8Array(X * Y * Z);
  for (let z = 0; z < Z; z++)
    for (let y = 0; y < Y; y++) {
      const row = Math.floor(z / columns) * Y + y;
      const from = 4 * (row * picture.width + (z % columns) * X);
      for (let x = 0; x < X; x++) voxels[x + X * (y + Y * z)] = pixels[from + 4 * x];
    }
  return voxels;
}

class Slices {
  constructor(figure) {
    this.figure = figure;
    Object.assign(this, JSON.parse(figure.querySelector("script").textContent));
    this.at = this.start.slice();
    this.image = 0;
    this.opacity = 0.5;
    this.line = figure.querySelector(".told");
  }

  async open() {
    const layers = [...this.images, ...this.overlays];
    for (const layer of layers) layer.voxels = await voxelsOf(layer.uri, this.shape, this.columns);
    for (const layer of this.overlays) layer.seen = layer.seen_first;
    this.views = PLANES.map((plane, i) => this.view(plane, i));
    this.controls();
    this.draw();
    this.tell(this.at);
    this.figure.dataset.ready = "yes";
  }

  view(plane, i) {
    const canvas = this.figure.querySelectorAll("canvas")[i];
    const scroll = this.figure.querySelectorAll(".through")[i];
    const extent = (axis) => this.shape[axis] * this.spacing[axis];
    canvas.width = Math.round(this.zoom * extent(plane.across));
    canvas.height = Math.round(this.zoom * extent(plane.up));
    const sheet = document.createElement("canvas");
    sheet.width = this.shape[plane.across];
    sheet.height = this.shape[plane.up];
    scroll.max = this.shape[plane.through] - 1;
    const voxel = (event) => {
      const box = canvas.getBoundingClientRect();
      const at = this.at.slice();
      const share = (v) => Math.min(Math.max(v, 0), 0.999999);
      at[plane.across] = Math.floor(share((event.clientX - box.left) / box.width) * sheet.width);
      at[plane.up] = Math.floor(share(1 - (event.clientY - box.top) / box.height) * sheet.height);
      return at;
    };
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.go(voxel(event));
      this.tell(voxel(event));
    });
    canvas.addEventListener("pointerdown", (event) => this.go(voxel(event)));
    canvas.addEventListener("pointerleave", () => this.tell(this.at));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.step(plane.through, event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
    scroll.addEventListener("input", () => {
      const at = this.at.slice();
      at[plane.through] = Number(scroll.value);
      this.go(at);
    });
    return { plane, canvas, sheet, scroll };
  }

  step(axis, by) {
    const at = this.at.slice();
    at[axis] = Math.min(Math.max(at[axis] + by, 0), this.shape[axis] - 1);
    this.go(at);
  }

  go(at) {
    this.at = at;
    this.draw();
    this.tell(at);
  }

  controls() {
    const chosen = this.figure.querySelector("select");
    if (chosen)
      chosen.addEventListener("change", () => {
        this.image = Number(chosen.value);
        this.go(this.at);
      });
    this.figure.querySelectorAll("input[type=checkbox]").forEach((box, i) =>
      box.addEventListener("change", () => {
        this.overlays[i].seen = box.checked;
        this.go(this.at);
      }));
    const opacity = this.figure.querySelector(".opacity");
    if (opacity)
      opacity.addEventListener("input", () => {
        this.opacity = Number(opacity.value);
        this.draw();
      });
  }

  index(at) {
    return at[0] + this.shape[0] * (at[1] + this.shape[1] * at[2]);
  }

  draw() {
    for (const { plane, canvas, sheet, scroll } of this.views) {
      scroll.value = this.at[plane.through];
      const pen = sheet.getContext("2d");
      const pixels = pen.createImageData(sheet.width, sheet.height);
      const at = this.at.slice();
      for (let v = 0; v < sheet.height; v++)
        for (let u = 0; u < sheet.width; u++) {
          at[plane.across] = u;
          at[plane.up] = sheet.height - 1 - v;
          this.paint(pixels.data, 4 * (v * sheet.width + u), this.index(at));
        }
      pen.putImageData(pixels, 0, 0);
      const screen = canvas.getContext("2d");
      screen.imageSmoothingEnabled = false;
      screen.drawImage(sheet, 0, 0, canvas.width, canvas.height);
      this.mark(screen, plane, canvas, sheet);
    }
  }

  paint(pixels, to, i) {
    const image = this.images[this.image];
    const grey = image ? Math.min(255, (255 * image.voxels[i]) / image.white) : 0;
    const colour = [grey, grey, grey];
    for (const layer of this.overlays) {
      const value = layer.voxels[i];
      if (!layer.seen || !value) continue;
      const paint = layer.is_labels ? layer.colours[value] : layer.colours[1];
      const share = this.opacity * (layer.is_labels ? 1 : value / 255);
      for (let c = 0; c < 3; c++) colour[c] += share * (paint[c] - colour[c]);
    }
    pixels.set([...colour, 255], to);
  }

  mark(screen, plane, canvas, sheet) {
    const x = ((this.at[plane.across] + 0.5) / sheet.width) * canvas.width;
    const y = (1 - (this.at[plane.up] + 0.5) / sheet.height) * canvas.height;
    screen.strokeStyle = "rgba(90, 200, 250, 0.55)";
    screen.beginPath();
    screen.moveTo(x, 0);
    screen.lineTo(x, canvas.height);
    screen.moveTo(0, y);
    screen.lineTo(canvas.width, y);
    screen.stroke();
    screen.fillStyle = "#fff";
    screen.font = "13px system-ui, sans-serif";
    screen.textBaseline = "middle";
    screen.fillText(plane.sides[0], 4, canvas.height / 2);
    screen.fillText(plane.sides[1], canvas.width - 14, canvas.height / 2);
  }

  tell(at) {
    const mm = at.map((v, axis) => this.origin[axis] + this.spacing[axis] * v);
    const place = ["x", "y", "z"].map((name, axis) => `${name} ${mm[axis].toFixed(1)}`).join(", ");
    const words = [`${place} mm`];
    const i = this.index(at);
    const image = this.images[this.image];
    for (const layer of [...(image ? [image] : []), ...this.overlays.filter((one) => one.seen)]) {
      const voxel = voxelAt(layer, mm);
      if (!voxel || (layer.is_labels && !layer.voxels[i])) continue;
      const value = layer.voxels[i];
      const shown = layer.is_labels ? layer.names[value] : number(layer, value);
      words.push(`${layer.name}: ${shown} [${voxel.join(", ")}]`);
    }
    this.line.textContent = words.join("  \u00b7  ");
  }
}

// The voxel of a layer's file that is nearest to a place; null outside of the file. The voxels of the page
// were taken from there in the same way (nearest_voxels in page.py), so the value is that voxel's.
function voxelAt(layer, mm) {
  const voxel = layer.to_voxel.map((row) =>
    Math.floor(row[0] * mm[0] + row[1] * mm[1] + row[2] * mm[2] + row[3] + 0.5 + 1e-6));
  return voxel.every((v, axis) => v >= 0 && v < layer.file_shape[axis]) ? voxel : null;
}

function number(layer, value) {
  const shown = layer.low + (value * (layer.high - layer.low)) / 255;
  const least = value === 255 && layer.is_cut ? "at least " : "";
  return `${least}${Number(shown.toPrecision(3))}${layer.unit ? " " + layer.unit : ""}`;
}

for (const figure of document.querySelectorAll("figure.slices"))
  new Slices(figure).open().catch((error) => {
    figure.querySelector(".told").textContent = `cannot be shown: ${error.message}`;
  });
