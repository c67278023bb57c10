// Exchanges the token in the address for a cookie, and removes it from the address and the history.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token !== null) {
  history.replaceState(null, "", location.pathname);
  await fetch("/v1/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
}
const answer = await fetch("/v1/status");
const body = await answer.json();
document.getElementById("status").textContent = answer.ok
  ? `The server answers; its devices: ${body.devices.map((one) => `${one.name} (${one.state})`).join(", ")}.`
  : body.error.message;
