// What HTML can't do by itself. Every page works without this.

const dialog = document.querySelector("#dialog");
const POLL_MILLISECONDS = 10_000;
const NOTICE_MILLISECONDS = 12_000;

const address = () => location.pathname + location.search;
/** What this document shows, below the dialog; the address bar may be further. */
const shown = address();
/** The address of the list below the dialog. */
let listUrl = location.href;
/** What had the focus before the dialog opened. */
let opener = null;

// ------------------------------------------------------------- time zone

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && zone !== document.body.dataset.zone && !document.cookie.includes(`time_zone=${zone}`)) {
  document.cookie = `time_zone=${zone}; path=/; max-age=31536000; samesite=lax`;
  if (document.cookie.includes(`time_zone=${zone}`)) location.reload();
}

// --------------------------------------------------------------- loading

/** A page of ours; goes there for good where it can't be had in between. */
async function load(url, options = {}) {
  const headers = { accept: "text/html", ...options.headers };
  const response = await fetch(url, { ...options, headers });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return { page, url: response.url, ok: response.ok };
}

/** Shows notices in the place of others. Those that offer something stay until then. */
function say(...notices) {
  const region = document.querySelector("#notices");
  region.replaceChildren(...notices);
  clearTimeout(say.timer);
  if (!region.querySelector("form")) {
    say.timer = setTimeout(() => region.replaceChildren(), NOTICE_MILLISECONDS);
  }
}

function notice(text, className = "notice") {
  const element = document.createElement("div");
  element.className = className;
  element.append(Object.assign(document.createElement("p"), { textContent: text }));
  return element;
}

/** The notices are within the dialog while it is open: nothing outside it can be used. */
function placeNotices() {
  const region = document.querySelector("#notices");
  if (dialog.open) dialog.prepend(region);
  else document.body.append(region);
}

function takeNotices(page) {
  const notices = page.querySelectorAll("#notices > .notice");
  if (notices.length) say(...notices);
}

// ---------------------------------------------------------------- dialog

function fill(sheet) {
  const focused = document.activeElement?.id;
  const close = document.createElement("form");
  close.method = "dialog";
  close.append(Object.assign(document.createElement("button"), { className: "close small", textContent: "Close" }));
  for (const old of [...dialog.children]) if (old.id !== "notices") old.remove();
  dialog.append(close, sheet);
  const heading = sheet.querySelector("h1");
  if (heading) dialog.setAttribute("aria-label", heading.textContent);
  enhance(dialog);
  if (!dialog.open) {
    opener = document.activeElement;
    dialog.showModal();
    dialog.scrollTop = 0;
  }
  placeNotices();
  if (focused && focused !== "dialog") dialog.querySelector(`#${CSS.escape(focused)}`)?.focus();
}

async function open(url) {
  const { page, ok } = await load(url);
  const sheet = page.querySelector("#main > .sheet");
  if (!sheet || !ok) {
    location.assign(url);
    return;
  }
  if (dialog.open) {
    history.replaceState({ sheet: true }, "", url);
  } else {
    listUrl = location.href;
    history.pushState({ sheet: true }, "", url);
  }
  document.title = page.title;
  fill(sheet);
}

dialog.addEventListener("close", () => {
  placeNotices();
  for (const old of [...dialog.children]) old.remove();
  if (history.state?.sheet) history.back();
  const next = opener?.isConnected ? opener : document.querySelector("#notices button, #main");
  next.focus();
});

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

addEventListener("popstate", () => {
  if (dialog.open) dialog.close();
  else if (address() !== shown) location.reload();
});

// -------------------------------------------------------- links and forms

document.addEventListener("click", (event) => {
  const target = event.target.closest?.("a, button");
  if (!target || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (target.matches("a[data-close]") && dialog.open) {
    event.preventDefault();
    dialog.close();
  } else if (target.matches("a[data-dialog]") && (document.querySelector("#list") || dialog.open)) {
    event.preventDefault();
    open(target.href).catch(() => location.assign(target.href));
  } else if (target.matches("[data-copy]")) {
    copy(target, document.getElementById(target.dataset.copy).textContent);
  } else if (target.matches("[data-copy-from]")) {
    fetch(target.dataset.copyFrom)
      .then((response) => response.text())
      .then((text) => copy(target, text));
  }
});

async function copy(button, text) {
  await navigator.clipboard.writeText(text);
  button.textContent = "Copied";
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const method = event.submitter?.getAttribute("formmethod") ?? form.method;
  if (method === "get") {
    // Fields that say nothing make a long address.
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    setTimeout(() => [...form.elements].forEach((field) => (field.disabled = false)));
  } else if (method === "post" && form.matches("[data-inline], [data-dialog]")) {
    event.preventDefault();
    send(form, event.submitter).catch(() => form.submit());
  }
});

async function send(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const busy = submitter ?? form;
  busy.setAttribute("aria-busy", "true");
  try {
    const { page, url, ok } = await load(form.getAttribute("action"), { method: "POST", body });
    if (!ok) {
      say(notice(page.querySelector("#main .sentence")?.textContent ?? "That did not work.", "notice bad"));
      return;
    }
    const sheet = page.querySelector("#main > .sheet");
    if (sheet && (dialog.open || form.matches("[data-dialog]"))) {
      fill(sheet);
      takeNotices(page);
      await refresh();
    } else {
      if (dialog.open) dialog.close();
      takeNotices(page);
      if (new URL(url).pathname === new URL(listUrl).pathname) replaceList(page);
      else location.assign(url);
    }
  } finally {
    busy.removeAttribute("aria-busy");
  }
}

document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.matches("form[data-auto] select")) field.form.requestSubmit();
  if (field.matches("[data-all]")) {
    for (const box of document.querySelectorAll('[name="call_id"]')) box.checked = field.checked;
  }
  if (field.matches('[data-all], [name="call_id"], [name="all_matching"]')) countSelected();
});

function countSelected() {
  const label = document.querySelector("[data-selected]");
  if (!label) return;
  const all = document.querySelector('[name="all_matching"]').checked;
  const count = document.querySelectorAll('[name="call_id"]:checked').length;
  label.textContent = all ? "All that match" : `${count} selected`;
}

// ------------------------------------------------------------ live lists

function replaceList(page) {
  const [now, then] = [document.querySelector("#list"), page.querySelector("#list")];
  if (!now || !then) return;
  const focused = document.activeElement?.closest?.("tr")?.dataset.id;
  now.replaceWith(then);
  enhance(then);
  if (focused) then.querySelector(`tr[data-id="${CSS.escape(focused)}"] a`)?.focus();
}

/** Takes in what is new, without moving what somebody reads. */
async function refresh() {
  const list = document.querySelector("#list");
  if (!list) return;
  const { page, ok } = await load(dialog.open ? listUrl : location.href, { headers: { "x-live": "1" } });
  const fresh = page.querySelector("#list");
  if (!ok || !fresh || !list.isConnected) return;
  const [body, freshBody] = [list.querySelector("tbody"), fresh.querySelector("tbody")];
  if (!body || !freshBody) {
    if (!body !== !freshBody) replaceList(page);
    if (!body && freshBody) say(notice("The first call is here."));
    return;
  }
  const known = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  const anchor = [...body.rows].find((row) => row.getBoundingClientRect().bottom > 0);
  const before = anchor?.getBoundingClientRect().top;
  let added = 0;
  let place = null;
  for (const row of [...freshBody.rows]) {
    const old = known.get(row.dataset.id);
    if (!old) {
      row.classList.add("fresh");
      if (place) place.after(row);
      else body.prepend(row);
      added += 1;
      place = row;
    } else {
      place = replaceRow(old, row);
    }
  }
  if (!added) return;
  if (anchor?.isConnected) scrollBy(0, anchor.getBoundingClientRect().top - before);
  if (list.matches("[data-live]")) say(notice(added === 1 ? "1 new call" : `${added} new calls`));
}

function replaceRow(old, row) {
  const box = old.querySelector('[name="call_id"]');
  const isSame = old.innerHTML.replaceAll(' checked=""', "") === row.innerHTML;
  if (isSame || old.contains(document.activeElement)) return old;
  if (box) row.querySelector('[name="call_id"]').checked = box.checked;
  old.replaceWith(row);
  return row;
}

setInterval(() => {
  const isWatched = document.visibilityState === "visible" && document.querySelector("[data-live]");
  if (isWatched) refresh().catch(() => {});
}, POLL_MILLISECONDS);

// ------------------------------------------------------------------ JSON

/** One value of a JSON text, as a line or as something to unfold. */
function leafOf(name, value) {
  if (value === null || typeof value !== "object") {
    const line = document.createElement("div");
    line.className = "leaf";
    line.textContent = `${name}: ${JSON.stringify(value)}`;
    return line;
  }
  const entries = Object.entries(value);
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = `${name} ${Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`}`;
  details.append(summary);
  details.addEventListener("toggle", () => unfold(details, entries), { once: true });
  return details;
}

function unfold(details, entries) {
  details.append(...entries.map(([name, value]) => leafOf(name, value)));
}

async function unfoldPayload(details) {
  const text = await (await fetch(details.dataset.json)).text();
  try {
    const value = JSON.parse(text);
    unfold(details, Object.entries(value));
  } catch {
    details.append(Object.assign(document.createElement("pre"), { textContent: text }));
  }
}

// ------------------------------------------------------------------------

/** Shows what works only with this module. */
function enhance(root) {
  for (const element of root.querySelectorAll("[data-all], [data-copy], [data-copy-from], [data-json]")) {
    element.hidden = false;
  }
  for (const element of root.querySelectorAll("[data-noscript]")) element.hidden = true;
  for (const details of root.querySelectorAll("[data-json]")) {
    details.addEventListener("toggle", () => unfoldPayload(details), { once: true });
  }
  countSelected();
}

enhance(document);
if (document.querySelector("#notices .notice")) say(...document.querySelectorAll("#notices .notice"));
