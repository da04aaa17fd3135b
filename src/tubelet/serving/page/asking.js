// Ask the server, with the token where it wants one. The token lives as long as the tab.

const KEPT = "tubelet-token";
const hash = new URLSearchParams(location.hash.slice(1));
if (hash.has("token")) {
  sessionStorage.setItem(KEPT, hash.get("token"));
  history.replaceState(null, "", location.pathname);
}

export class Refused extends Error {
  constructor(code, text, id) {
    super(text + (id ? ` (request ${id})` : ""));
    this.code = code;
  }
}

export const keep = token => sessionStorage.setItem(KEPT, token);
const token = () => sessionStorage.getItem(KEPT);

export async function ask(path, options = {}) {
  const headers = { ...(token() ? { Authorization: `Bearer ${token()}` } : {}), ...options.headers };
  let reply;
  for (let tries = 0; tries < 20; tries++) {
    try {
      reply = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("network", "The server does not answer, or ended the upload.");
    }
    if (reply.status !== 503 || !reply.headers.has("retry-after")) break;
    await new Promise(done => setTimeout(done, 1000 * Number(reply.headers.get("retry-after"))));
  }
  const said = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Refused(said.error?.code, said.error?.message ?? "Something went wrong.", said.error?.request_id);
  return said;
}

// A browser gives a websocket no header of ours but the names of protocols.
export function listen(path) {
  const code = [...new TextEncoder().encode(token() ?? "")].map(byte => byte.toString(16).padStart(2, "0")).join("");
  return new WebSocket(path, code ? ["tubelet", `tubelet.token.${code}`] : ["tubelet"]);
}
