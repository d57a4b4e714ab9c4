// The heatmap above the image, and the description of what is shown in all, for users who cannot see it.
function show() {
  const { src, alt } = props.value || {};
  const heat = document.querySelector('.fg-heat');
  heat.hidden = !src;
  if (src) heat.src = src;
  document.querySelector('.fg-stage').classList.toggle('fg-heated', Boolean(src));
  if (alt) document.querySelector('.fg-canvas').setAttribute('aria-label', alt);
}
watch('value', show);
show();
