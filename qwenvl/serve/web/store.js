// Keeps conversations and their pictures in the browser (IndexedDB), or in memory where it has none.

/**
 * @typedef {Object} Stored a conversation: `turns` as conversation.js describes them
 * @property {string} id
 * @property {string} title
 * @property {number} updated milliseconds since 1970
 * @property {import("./conversation.js").Turn[]} turns
 */

const NAME = "qwenvl";
const VERSION = 1;

/** @type {IDBDatabase|null} */
let database = null;
const memory = { conversations: new Map(), media: new Map() };

/** Opens the store. False if nothing will outlive this page. */
export async function openStore() {
  try {
    database = await new Promise((resolve, reject) => {
      const request = indexedDB.open(NAME, VERSION);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("conversations", { keyPath: "id" });
        request.result.createObjectStore("media", { keyPath: "id" }).createIndex("conversation", "conversation");
      };
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
      request.onblocked = () => reject(new Error("blocked"));
    });
    return true;
  } catch {
    return false;
  }
}

/** One transaction on one table; resolves when it is on disk, to what `work`'s request found. */
function transact(table, mode, work) {
  return new Promise((resolve, reject) => {
    const transaction = /** @type {IDBDatabase} */ (database).transaction(table, mode);
    const request = work(transaction.objectStore(table));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

const put = (table, value) =>
  database ? transact(table, "readwrite", (rows) => rows.put(value)) : memory[table].set(value.id, value);
const get = (table, id) => (database ? transact(table, "readonly", (rows) => rows.get(id)) : memory[table].get(id));
const drop = (table, id) => (database ? transact(table, "readwrite", (rows) => rows.delete(id)) : memory[table].delete(id));
const all = (table) => (database ? transact(table, "readonly", (rows) => rows.getAll()) : [...memory[table].values()]);

/** All conversations, the newest first. @returns {Promise<Stored[]>} */
export const listConversations = async () => (await all("conversations")).sort((a, b) => b.updated - a.updated);

/** @returns {Promise<Stored|undefined>} */
export const readConversation = async (id) => get("conversations", id);

/** Keeps a copy: what the page changes later is kept by the next call. */
export const writeConversation = async (conversation) => put("conversations", structuredClone(conversation));

export const writeMedia = async (media) => put("media", media);

/** The pictures and clips of a conversation. */
export async function readMedia(conversation) {
  if (!database) return [...memory.media.values()].filter((media) => media.conversation === conversation);
  return transact("media", "readonly", (rows) => rows.index("conversation").getAll(conversation));
}

export const deleteMedia = async (id) => drop("media", id);

/** Deletes a conversation with its pictures. */
export async function deleteConversation(id) {
  for (const media of await readMedia(id)) await deleteMedia(media.id);
  await drop("conversations", id);
}
