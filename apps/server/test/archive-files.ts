/** Archives for tests, also such as no honest program writes. */
import { deflateRawSync } from 'node:zlib';

export interface ArchivedFile {
  readonly path: string;
  readonly bytes: string | Buffer;
  /** tar's letter; '2' = symbolic link. */
  readonly type?: '0' | '1' | '2' | '3';
}

const SYMLINK_MODE = 0o120777;

export function zip(files: readonly ArchivedFile[], { encrypted = false } = {}): Buffer {
  const locals: Buffer[] = [];
  const centrals: Buffer[] = [];
  let offset = 0;
  for (const { path, bytes, type } of files) {
    const name = Buffer.from(path);
    const content = Buffer.from(bytes);
    const packed = deflateRawSync(content);
    const common = Buffer.alloc(26); // from the version needed to the lengths of name and extra field
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(encrypted ? 0x801 : 0x800, 2);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\u0003\u0004'), common, name, packed]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(((type === '2' ? SYMLINK_MODE : 0o100644) * 2 ** 16) >>> 0, 6);
    rest.writeUInt32LE(offset, 10);
    centrals.push(Buffer.from('PK\u0001\u0002\u0014\u0003', 'latin1'), common, rest, name);
    locals.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(centrals);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(files.length, 4);
  end.writeUInt16LE(files.length, 6);
  end.writeUInt32LE(central.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...locals, central, Buffer.from('PK\u0005\u0006'), end]);
}

export function tar(files: readonly ArchivedFile[]): Buffer {
  const blocks = files.flatMap(({ path, bytes, type = '0' }) => {
    const content = Buffer.from(bytes);
    const size = type === '0' ? content.length : 0;
    const header = Buffer.alloc(512);
    header.write(path, 0);
    header.write('0000644\u00000000000\u00000000000\u0000', 100);
    header.write(`${size.toString(8).padStart(11, '0')}\u0000`, 124);
    header.write('00000000000\u0000        ', 136);
    header.write(type, 156);
    if (type === '1' || type === '2') header.write('/etc/passwd', 157);
    header.write('ustar\u000000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\u0000 `, 148);
    return size === 0 ? [header] : [header, content, Buffer.alloc((512 - (size % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}
