/**
 * A radix tree over rows of token ids: finds the stored row with the longest common beginning. A look-up visits each of its tokens once at
 * most, however many rows are stored.
 */
import { commonPrefixLength } from './document-turn.js';

interface Node<T> {
  /** Tokens between the parent and this node; empty at the root only. */
  edge: Int32Array;
  readonly children: Map<number, Node<T>>;
  /** The row that ends here. */
  row: { readonly ids: Int32Array; readonly value: T } | null;
}

export interface PrefixMatch<T> {
  readonly value: T;
  /** Tokens that the row found and the row asked for have in common, at least 1. */
  readonly length: number;
}

export class PrefixTree<T> {
  readonly #root: Node<T> = { edge: new Int32Array(0), children: new Map(), row: null };

  get isEmpty(): boolean {
    return this.#root.children.size === 0;
  }

  /** Stores a row that is not empty; one with the same ids is replaced. */
  set(ids: Int32Array, value: T): void {
    let node = this.#root;
    for (let at = 0; at < ids.length; ) {
      const child = node.children.get(ids[at]!);
      if (child === undefined) {
        node.children.set(ids[at]!, { edge: ids.subarray(at), children: new Map(), row: { ids, value } });
        return;
      }
      const common = commonPrefixLength(child.edge, ids.subarray(at));
      node = common === child.edge.length ? child : split(node, child, common);
      at += common;
    }
    node.row = { ids, value };
  }

  /** Returns the row with the longest common beginning, of several the shortest; null when none has even the first token. */
  longest(ids: Int32Array): PrefixMatch<T> | null {
    let [node, at] = [this.#root, 0];
    while (at < ids.length) {
      const child = node.children.get(ids[at]!);
      if (child === undefined) break;
      const common = commonPrefixLength(child.edge, ids.subarray(at));
      [node, at] = [child, at + common];
      if (common < child.edge.length) break;
    }
    const row = at === 0 ? null : shortest(node);
    return row && { value: row.value, length: at };
  }

  /** Returns the values of the rows that `ids` begins with, itself among them. */
  beginningsOf(ids: Int32Array): T[] {
    const values: T[] = [];
    let [node, at]: [Node<T> | undefined, number] = [this.#root, 0];
    for (;;) {
      if (node.row !== null) values.push(node.row.value);
      node = at < ids.length ? node.children.get(ids[at]!) : undefined;
      if (node === undefined || commonPrefixLength(node.edge, ids.subarray(at)) < node.edge.length) return values;
      at += node.edge.length;
    }
  }

  /** Forgets a row. Returns whether it was there. */
  delete(ids: Int32Array): boolean {
    const path: Node<T>[] = [this.#root];
    for (let at = 0; at < ids.length; ) {
      const child = path.at(-1)!.children.get(ids[at]!);
      if (child === undefined || commonPrefixLength(child.edge, ids.subarray(at)) < child.edge.length) return false;
      path.push(child);
      at += child.edge.length;
    }
    const node = path.at(-1)!;
    if (node.row === null) return false;
    node.row = null;
    const parent = path.at(-2);
    if (parent === undefined) return true;
    if (node.children.size === 0) {
      parent.children.delete(node.edge[0]!);
      const above = path.at(-3);
      if (above !== undefined) merge(above, parent);
    } else merge(parent, node);
    return true;
  }
}

/** Puts a node in the midst of a child's edge. */
function split<T>(parent: Node<T>, child: Node<T>, at: number): Node<T> {
  const middle: Node<T> = { edge: child.edge.subarray(0, at), children: new Map(), row: null };
  parent.children.set(middle.edge[0]!, middle);
  child.edge = child.edge.subarray(at);
  middle.children.set(child.edge[0]!, child);
  return middle;
}

/** Joins a node that has lost its reason to its only child. The edge is copied from the child's row, so that a row that is gone is freed. */
function merge<T>(parent: Node<T>, node: Node<T>): void {
  if (node.row !== null || node.children.size !== 1) return;
  const [child] = node.children.values() as Iterable<Node<T>>;
  const edge = new Int32Array(node.edge.length + child!.edge.length);
  edge.set(node.edge);
  edge.set(child!.edge, node.edge.length);
  child!.edge = edge;
  parent.children.set(edge[0]!, child!);
}

function shortest<T>(node: Node<T>): Node<T>['row'] {
  if (node.row !== null) return node.row;
  let best: Node<T>['row'] = null;
  for (const child of node.children.values()) {
    const row = shortest(child);
    if (row !== null && (best === null || row.ids.length < best.ids.length)) best = row;
  }
  return best;
}
