// The examples. Event sent to Python: 'example' {name}.
element.querySelectorAll('button').forEach((button) => {
  button.addEventListener('click', () => trigger('example', { name: button.dataset.name }));
});
