// The legend: one row per prompt with its colour, its share of the image and, if a point or box is marked, its score.
// Event sent to Python: 'layered' {layer}; -1 shows all masks, another number the heatmap of the prompt with this index.
const make = (tag, name, text = '') => {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text; // never HTML: a prompt may hold markup
  return made;
};

function button(layer, parts) {
  const made = make('button', 'fg-layer');
  made.type = 'button';
  made.setAttribute('aria-pressed', String(layer === props.value.layer));
  made.append(...parts);
  made.addEventListener('click', () => trigger('layered', { layer }));
  return made;
}

function scoreOf(row) {
  if (row.mean === null) return [];
  const bar = make('span', 'fg-score');
  const fill = make('i', '');
  fill.style.width = `${100 * row.mean}%`;
  fill.style.background = row.color;
  bar.append(fill);
  const text = props.value.isPoint ? row.mean.toFixed(2) : `${row.mean.toFixed(2)} (peak ${row.peak.toFixed(2)})`;
  return [bar, make('span', 'fg-number', text)];
}

function entry(row, index) {
  const swatch = make('i', 'fg-swatch');
  swatch.style.background = row.color;
  return button(index, [swatch, make('span', 'fg-word', row.name), ...scoreOf(row), make('span', 'fg-share', row.share)]);
}

function heading(value) {
  const title = value.where ? `Presence ${value.where} (0 absent, 0.5 a tie with the background, 1 certain)` : 'Show all masks, or the heatmap of one prompt';
  const made = make('p', 'fg-small', title);
  made.setAttribute('role', 'status');
  if (value.layer >= 0) {
    const ramp = make('i', 'fg-ramp');
    ramp.style.background = `linear-gradient(to right, ${value.ramp.join(', ')})`;
    made.append(' · heatmap: 0', ramp, '1');
  }
  return made;
}

function show() {
  const value = props.value;
  const focused = [...element.querySelectorAll('.fg-layer')].indexOf(document.activeElement);
  const list = element.querySelector('.fg-legend');
  list.replaceChildren();
  list.hidden = !value?.rows?.length;
  if (list.hidden) return;
  const all = button(-1, [make('span', 'fg-word', 'All masks')]);
  list.append(heading(value), all, ...value.rows.map(entry));
  if (focused >= 0) element.querySelectorAll('.fg-layer')[focused]?.focus();
}
watch('value', show);
show();
