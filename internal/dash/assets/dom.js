// Elements are made here and nowhere else. Text always goes through textContent: names and sub-ids come from outside,
// and no string is ever read as HTML.

// h makes an element. Properties: class, dataset, on (listeners), style (custom properties), everything else is an attribute.
export function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === 'class') el.className = value;
    else if (key === 'dataset') Object.assign(el.dataset, value);
    else if (key === 'on') for (const [name, fn] of Object.entries(value)) el.addEventListener(name, fn);
    else if (key === 'style') for (const [name, v] of Object.entries(value)) el.style.setProperty(name, v);
    else el.setAttribute(key, value === true ? '' : value);
  }
  for (const child of children.flat()) {
    if (child === undefined || child === null || child === false) continue;
    el.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return el;
}

export const byId = (id) => document.getElementById(id);

// fill replaces what is in el, and keeps the keyboard where it was if the same control is there again.
export function fill(el, ...children) {
  const focus = el.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  el.replaceChildren(...children.flat().filter((c) => c));
  if (focus) {
    const again = [...el.querySelectorAll('[data-focus]')].find((n) => n.dataset.focus === focus);
    if (again) again.focus({ preventScroll: true });
  }
  el.setAttribute('aria-busy', 'false');
}

// setText changes a text only when it differs, so that a screen reader and the layout are left alone.
export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

export function empty(title, ...rest) {
  return h('div', { class: 'empty' }, h('strong', null, title), ...rest);
}
