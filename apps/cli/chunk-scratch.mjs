import { loadModel } from '@ctkvr/model-runner';
import { readFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
const m=await loadModel('smollm2-135m');
const text=readFileSync(process.env.HOME+'/.cache/ctkvr/texts/moby-dick-0.2.3.txt','utf8');
const all=[...(await m.tokenize(text.slice(0,60000)))].slice(0,8100);
const s=await m.createSession({ contextLength: 8192, selector: { selector:'full' } });
await s.prefill(Int32Array.from(all.slice(0,7000)));
let at=7000;
const run=async(n)=>{const t=performance.now(); await s.prefill(Int32Array.from(all.slice(at,at+n))); at+=n; return performance.now()-t;};
if(process.env.PERF){ const p=spawn('perf',['record','-o','/tmp/p3.data','-p',String(process.pid)]); await new Promise(r=>setTimeout(r,700)); for(let i=0;i<100;i++) await run(8); p.kill('SIGINT'); await new Promise(r=>setTimeout(r,1500)); }
else for (const n of [8,16,32,64,128]) { const ts=[]; for(let i=0;i<4;i++) ts.push(await run(n)); ts.sort((a,b)=>a-b); console.log(n, ts[0].toFixed(1), ts[1].toFixed(1)); }
await m.close();
