// The masks over the image, the class and presence under the pointer, and the outline of a region. All of it is computed
// here from a label map that comes once with each result. Events: 'fgseg:hidden' [index of class] from legend.js,
// 'fgseg:point' from stage.js, 'fgseg:region' {index, box} or null from regions.js.
const UNLABELLED = 65535;
const LINES_PER_SIDE = 400; // an outline is this part of the longer side thick, as in the overlay that is saved
const on = (name, action) => document.addEventListener(name, (event) => action(event.detail));
const find = (name) => document.querySelector(name);
let view = null; // the value with its arrays
let latest = 0;
let hidden = new Set();

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).arrayBuffer();
}

async function load() {
  const value = props.value;
  const number = ++latest;
  view = null;
  outline(null);
  if (value?.labels) {
    const labels = new Uint16Array(await inflated(value.labels));
    const presence = new Uint8Array(await inflated(value.presence));
    const bits = value.overlapping && new Uint8Array(await inflated(value.overlapping));
    if (number !== latest) return; // a later result has come meanwhile
    view = { ...value, labels, presence, bits };
    const isOption = document.activeElement?.matches('input'); // the user may go on to move its slider
    // On a narrow screen the button is below the image.
    if (!isOption && find('.fg-viewport').getBoundingClientRect().bottom < 80) find('.fg-stage').scrollIntoView();
  }
  draw();
}

function holds(index, pixel) {
  if (!view.bits) return view.labels[pixel] === index;
  const bit = index * view.width * view.height + pixel;
  return (view.bits[bit >> 3] >> (7 - (bit & 7))) & 1;
}

// --- drawing

function blank(name) {
  const canvas = find(name);
  [canvas.width, canvas.height] = view ? [view.width, view.height] : [1, 1];
  return canvas.getContext('2d');
}

function draw() {
  const [fill, lines] = [blank('.fg-fill'), blank('.fg-lines')];
  if (!view) return;
  const { width, height, colors } = view;
  const painted = [new ImageData(width, height), new ImageData(width, height)];
  const shown = colors.map((_, index) => index).filter((index) => !hidden.has(index));
  for (const index of shown) paint(index, ...painted);
  fill.putImageData(painted[0], 0, 0);
  lines.putImageData(painted[1], 0, 0);
}

// The fill is opaque here; the slider sets the opacity of its canvas. Where masks overlap, their colours are mixed.
function paint(index, fill, lines) {
  const { width, height, colors } = view;
  const color = colors[index];
  const thickness = Math.ceil(Math.max(width, height) / LINES_PER_SIDE);
  for (let y = 0, pixel = 0; y < height; y++) {
    for (let x = 0; x < width; x++, pixel++) {
      if (!holds(index, pixel)) continue;
      const at = 4 * pixel;
      const share = fill.data[at + 3] ? 0.5 : 1;
      for (let k = 0; k < 3; k++) fill.data[at + k] += share * (color[k] - fill.data[at + k]);
      fill.data[at + 3] = 255;
      const isBorder =
        (x >= thickness && !holds(index, pixel - thickness)) ||
        (x + thickness < width && !holds(index, pixel + thickness)) ||
        (y >= thickness && !holds(index, pixel - thickness * width)) ||
        (y + thickness < height && !holds(index, pixel + thickness * width));
      if (isBorder) lines.data.set([...color, 255], at);
    }
  }
}

// --- the class and presence under the pointer

function read(point) {
  const readout = find('.fg-readout');
  readout.hidden = !view || !point;
  if (readout.hidden) return;
  const x = Math.min(view.width - 1, Math.floor(point.x * view.width));
  const y = Math.min(view.height - 1, Math.floor(point.y * view.height));
  const pixel = y * view.width + x;
  const label = view.labels[pixel];
  const others = view.bits ? view.names.filter((_, index) => index !== label && holds(index, pixel)) : [];
  readout.querySelector('span').textContent =
    label === UNLABELLED
      ? 'none of the prompts'
      : `${view.names[label]} ${(view.presence[pixel] / 100).toFixed(2)}${others.length ? `, also ${others.join(', ')}` : ''}`;
  const swatch = readout.querySelector('i');
  swatch.hidden = label === UNLABELLED;
  swatch.style.background = swatch.hidden ? '' : `rgb(${view.colors[label]})`;
  const isRight = point.left > innerWidth / 2; // so that it stays inside the window
  readout.style.left = isRight ? 'auto' : `${point.left + 14}px`;
  readout.style.right = isRight ? `${innerWidth - point.left + 14}px` : 'auto';
  readout.style.top = `${point.top + 14}px`;
}

// --- the outline of a region

// The 8-connected parts of a class inside a box (left, top, right, bottom) of the label map: the number of the part of each
// pixel, from 1, and the box of each part. Typed arrays and plain loops, because a part may have a million pixels.
function partsIn(index, [left, top, right, bottom]) {
  const { width, height } = view;
  const numbers = new Int32Array(width * height);
  const stack = new Int32Array((right - left) * (bottom - top));
  const boxes = [];
  for (let startY = top; startY < bottom; startY++) {
    for (let startX = left; startX < right; startX++) {
      const first = startY * width + startX;
      if (numbers[first] || !holds(index, first)) continue;
      const box = [startX, startY, startX + 1, startY + 1];
      boxes.push(box);
      let size = 0;
      stack[size++] = first;
      numbers[first] = boxes.length;
      while (size) {
        const pixel = stack[--size];
        const [x, y] = [pixel % width, Math.floor(pixel / width)];
        if (x < box[0]) box[0] = x;
        if (x >= box[2]) box[2] = x + 1;
        if (y >= box[3]) box[3] = y + 1; // the first pixel is in the top row
        for (let nextY = Math.max(top, y - 1); nextY <= Math.min(bottom - 1, y + 1); nextY++) {
          for (let nextX = Math.max(left, x - 1); nextX <= Math.min(right - 1, x + 1); nextX++) {
            const next = nextY * width + nextX;
            if (numbers[next] || !holds(index, next)) continue;
            numbers[next] = boxes.length;
            stack[size++] = next;
          }
        }
      }
    }
  }
  return { numbers, boxes };
}

// The border of one part, as the path of an SVG. Sides between two of its pixels are no border.
function border(numbers, number, [left, top, right, bottom]) {
  const { width } = view;
  const edges = [];
  const isIn = (x, y) => x >= left && x < right && y >= top && y < bottom && numbers[y * width + x] === number;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      if (!isIn(x, y)) continue;
      if (!isIn(x, y - 1)) edges.push(`M${x} ${y}h1`);
      if (!isIn(x, y + 1)) edges.push(`M${x} ${y + 1}h1`);
      if (!isIn(x - 1, y)) edges.push(`M${x} ${y}v1`);
      if (!isIn(x + 1, y)) edges.push(`M${x + 1} ${y}v1`);
    }
  }
  return edges.join('');
}

// Outlines one region; null outlines none. The box is in pixels of the image, of which the label map may be a smaller copy.
function outline(region) {
  const svg = find('.fg-outline');
  const paths = svg.querySelectorAll('path');
  paths.forEach((path) => path.removeAttribute('d'));
  if (!region || !view) return;
  const scales = [view.width / view.imageWidth, view.height / view.imageHeight];
  const scaled = region.box.map((side, k) => side * scales[k % 2]);
  const box = scaled.map((side, k) => (k < 2 ? Math.floor(side) : Math.ceil(side)));
  const { numbers, boxes } = partsIn(region.index, box);
  // Parts of other regions may lie in the box. Most often the region's own part fills it.
  const distance = (part) => part.reduce((sum, side, k) => sum + Math.abs(side - scaled[k]), 0);
  const [nearest] = [...boxes].sort((a, b) => distance(a) - distance(b));
  const [left, top, right, bottom] = box;
  // A region of few pixels of a large image may have none in the smaller copy; then its box shows where it is.
  const shape = nearest ? border(numbers, boxes.indexOf(nearest) + 1, nearest) : `M${left} ${top}H${right}V${bottom}H${left}Z`;
  svg.setAttribute('viewBox', `0 0 ${view.width} ${view.height}`);
  paths.forEach((path) => path.setAttribute('d', shape));
  find('.fg-viewport').scrollIntoView({ block: 'nearest' });
  paths[0].scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

on('fgseg:hidden', (indices) => {
  hidden = new Set(indices);
  draw();
});
on('fgseg:point', read);
on('fgseg:region', outline);
watch('value', load);
load();
