// What HTML can't do by itself. Every page works without this.

const dialog = document.querySelector("#dialog");
const POLL_MILLISECONDS = 10_000;
const NOTICE_MILLISECONDS = 12_000;
/** Of requests that nobody made: what is said once is not said to them. */
const LIVE = { headers: { "x-live": "1" } };

const address = () => location.pathname + location.search;
/** What this document shows, below the dialog; the address bar may be further. */
let shown = address();
/** The address of the list below the dialog. */
let listUrl = location.href;
/** What had the focus before the dialog opened. */
let opener = null;

// ------------------------------------------------------------- time zone

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && zone !== document.body.dataset.zone && !document.cookie.includes(`time_zone=${zone}`)) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `time_zone=${zone}; path=/; max-age=31536000; samesite=lax${secure}`;
  if (document.cookie.includes(`time_zone=${zone}`)) location.reload();
}

// --------------------------------------------------------------- loading

/** A page of ours. Who is signed out is told so. */
async function load(url, options = {}) {
  const headers = { accept: "text/html", ...options.headers };
  const response = await fetch(url, { ...options, headers });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (response.status === 401) {
    const signedOut = notice("You are signed out.", "notice bad");
    const link = Object.assign(document.createElement("a"), { href: location.href, textContent: "Sign in" });
    signedOut.append(link);
    say(signedOut);
  }
  return { page, url: response.url, ok: response.ok, status: response.status, moved: response.redirected };
}

/** Shows a notice. One that offers something stays until another one does, or it is closed. */
function say(...notices) {
  const region = document.querySelector("#notices");
  const offers = notices.some((one) => one.querySelector("form"));
  for (const old of [...region.children]) if (offers || !old.querySelector("form")) old.remove();
  for (const one of notices) {
    if (!one.querySelector(".close")) {
      const close = Object.assign(document.createElement("button"), { type: "button", className: "close small", textContent: "Close" });
      close.addEventListener("click", () => one.remove());
      one.append(close);
    }
    if (!one.querySelector("form")) setTimeout(() => one.remove(), NOTICE_MILLISECONDS);
    region.append(one);
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
  const again = focused && dialog.querySelector(`#${CSS.escape(focused)}`);
  (again || dialog.querySelector(".close")).focus();
}

async function open(url) {
  open.wanted = url;
  const { page, ok, status } = await load(url);
  if (open.wanted !== url || status === 401) return;
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
  const next = opener?.isConnected ? opener : document.querySelector("#notices form button");
  (next ?? document.querySelector("#main")).focus();
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
    target.setAttribute("aria-busy", "true");
    open(target.href)
      .catch(() => location.assign(target.href))
      .finally(() => target.removeAttribute("aria-busy"));
  } else if (target.matches("[data-copy]")) {
    copy(document.getElementById(target.dataset.copy).textContent);
  } else if (target.matches("[data-copy-from]")) {
    fetch(target.dataset.copyFrom)
      .then((response) => (response.ok ? response.text() : Promise.reject(response.status)))
      .then(copy, () => say(notice("That could not be copied.", "notice bad")));
  }
});

function copy(text) {
  navigator.clipboard.writeText(text).then(
    () => say(notice("Copied.")),
    () => say(notice("This browser did not let it be copied.", "notice bad")),
  );
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const method = event.submitter?.getAttribute("formmethod") ?? form.method;
  if (method === "get") {
    // Fields that say nothing make a long address.
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    setTimeout(() => [...form.elements].forEach((field) => (field.disabled = false)));
  } else if (method === "post" && form.matches("[aria-busy]")) {
    // It is on its way: once is enough.
    event.preventDefault();
  } else if (method === "post") {
    form.setAttribute("aria-busy", "true");
    if (!form.matches("[data-inline], [data-dialog]")) return;
    event.preventDefault();
    send(form, event.submitter)
      .catch(() => say(notice("That could not be sent: look whether it took effect, and try again.", "notice bad")))
      .finally(() => form.removeAttribute("aria-busy"));
  }
});

async function send(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const { page, url, ok, status, moved } = await load(form.getAttribute("action"), { method: "POST", body });
  if (status === 401) return;
  if (!ok) {
    say(notice(page.querySelector("#main .sentence")?.textContent ?? "That did not work.", "notice bad"));
    return;
  }
  const done = form.closest(".notice");
  if (done) done.remove();
  const sheet = page.querySelector("#main > .sheet");
  const isOverTheList = dialog.open && history.state?.sheet;
  if (sheet && (isOverTheList || !moved)) {
    fill(sheet);
    if (moved) {
      history.replaceState({ sheet: true }, "", url);
      replaceList((await load(listUrl, LIVE)).page);
    }
  } else {
    if (dialog.open) dialog.close();
    place(page, url);
  }
  takeNotices(page);
}

/** Shows a page in the place of this one; of the same list only the list. */
function place(page, url) {
  const isHere = new URL(url).pathname === new URL(listUrl).pathname;
  if (isHere && page.querySelector("#list") && document.querySelector("#list")) {
    replaceList(page);
    return;
  }
  const focused = document.activeElement?.id;
  for (const part of [".side", "#main"]) {
    document.querySelector(part).replaceChildren(...page.querySelector(part).childNodes);
  }
  document.title = page.title;
  if (!isHere) history.pushState(null, "", url);
  shown = address();
  listUrl = location.href;
  enhance(document);
  (focused && document.getElementById(focused) ? document.getElementById(focused) : document.querySelector("#main")).focus();
}

document.addEventListener("change", (event) => {
  const field = event.target;
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
  const selected = new Set([...now.querySelectorAll('[name="call_id"]:checked')].map((box) => box.value));
  for (const box of then.querySelectorAll('[name="call_id"]')) box.checked = selected.has(box.value);
  const [bulk, freshBulk] = [now.querySelector("#bulk"), then.querySelector("#bulk")];
  if (bulk && freshBulk) {
    freshBulk.elements.all_matching.checked = bulk.elements.all_matching.checked;
    freshBulk.elements.campaign_id.value = bulk.elements.campaign_id.value;
  }
  now.replaceWith(then);
  enhance(then);
  if (focused) then.querySelector(`tr[data-id="${CSS.escape(focused)}"] a`)?.focus();
}

/** Takes in what is new, without moving what somebody reads. */
async function refresh() {
  const list = document.querySelector("#list");
  if (!list) return;
  const { page, ok } = await load(dialog.open ? listUrl : location.href, LIVE);
  const fresh = page.querySelector("#list");
  if (!ok || !fresh || !list.isConnected) return;
  const [body, freshBody] = [list.querySelector("tbody"), fresh.querySelector("tbody")];
  if (!body || !freshBody) {
    const isFirst = list.querySelector(".first-run") !== null;
    if (!body !== !freshBody) replaceList(page);
    if (isFirst && freshBody) say(notice("The first call is here."));
    return;
  }
  const known = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  const anchor = [...body.rows].find((row) => row.getBoundingClientRect().bottom > 0);
  const before = anchor?.getBoundingClientRect().top;
  const wanted = new Set([...freshBody.rows].map((row) => row.dataset.id));
  let added = 0;
  let isAtTop = true;
  let place = null;
  for (const row of [...freshBody.rows]) {
    const old = known.get(row.dataset.id);
    if (old) {
      isAtTop = false;
      place = replaceRow(old, row);
      continue;
    }
    // Further down it is no news: it moved up from the next page.
    if (isAtTop) {
      row.classList.add("fresh");
      added += 1;
    }
    if (place) place.after(row);
    else body.prepend(row);
    place = row;
  }
  for (const [id, row] of known) if (!wanted.has(id) && !isUsed(row)) row.remove();
  if (anchor?.isConnected) scrollBy(0, anchor.getBoundingClientRect().top - before);
  if (added) say(notice(added === 1 ? "1 new call" : `${added} new calls`));
}

/** Whether somebody reads a row, or does something with it. */
function isUsed(row) {
  const box = row.getBoundingClientRect();
  const isVisible = box.bottom > 0 && box.top < innerHeight;
  return isVisible || row.contains(document.activeElement) || row.querySelector('[name="call_id"]:checked') !== null;
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
  if (isWatched) {
    refresh().catch(() => say(notice("This list could not be brought up to date; it is tried again.", "notice bad")));
  }
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
  const response = await fetch(details.dataset.json).catch(() => null);
  if (!response?.ok) {
    say(notice("The payload could not be loaded: reload the page.", "notice bad"));
    return;
  }
  const text = await response.text();
  try {
    const value = JSON.parse(text);
    unfold(details, Object.entries(value));
  } catch {
    details.append(Object.assign(document.createElement("pre"), { textContent: text }));
  }
}

// A page that comes back as it was left has nothing on its way.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[aria-busy]")) form.removeAttribute("aria-busy");
});

// ------------------------------------------------------------------------

/** Shows what works only with this module. */
function enhance(root) {
  for (const element of root.querySelectorAll("[data-page], [data-copy], [data-copy-from], [data-json]")) {
    element.hidden = false;
  }
  for (const details of root.querySelectorAll("[data-json]")) {
    details.addEventListener("toggle", () => unfoldPayload(details), { once: true });
  }
  countSelected();
}

// A reload leaves no dialog open.
if (history.state?.sheet) history.replaceState(null, "");
enhance(document);
say(...document.querySelectorAll("#notices > .notice"));
