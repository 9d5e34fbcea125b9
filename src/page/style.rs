//! How pages look: light and dark, wide and narrow.

/// The whole style sheet.
pub(super) const CSS: &str = "
:root{--paper:#fff;--ink:#1c2024;--soft:#60646c;--line:#d9d9e0;--ran:#0b6e4f;--cached:#3e63dd;--failed:#c62a2f;--unneeded:#b9bbc6;--tint:#f5f6f8}
@media (prefers-color-scheme:dark){:root{--paper:#111113;--ink:#edeef0;--soft:#b0b4ba;--line:#363a3f;--ran:#46c28e;--cached:#8da4ef;--failed:#ff8589;--unneeded:#696e77;--tint:#1b1d20}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1100px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:22px;line-height:1.3;margin:0 0 16px;overflow-wrap:anywhere}
h2{font-size:16px;margin:32px 0 8px}
code,pre{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
.badge{font-size:13px;font-weight:600;padding:2px 8px;border-radius:10px;border:1px solid currentColor;vertical-align:2px}
.badge.ran{color:var(--ran)}.badge.failed{color:var(--failed)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:8px 24px;margin:0}
dt{color:var(--soft);font-size:13px}
dd{margin:0;overflow-wrap:anywhere}
.diagnosis{border-left:3px solid var(--failed);background:var(--tint);padding:4px 16px 12px;margin-top:24px}
.diagnosis h2{margin-top:8px}
.legend{color:var(--soft);font-size:13px;margin:0 0 8px}
.legend .dot{position:static;display:inline-block;margin:0 4px 0 8px;transform:none;vertical-align:-1px}
.legend .dot:first-child{margin-left:0}
.step{display:grid;grid-template-columns:auto minmax(0,1fr) 84px minmax(0,34%);column-gap:12px;align-items:stretch;border-top:1px solid var(--line)}
.steps{border-bottom:1px solid var(--line)}
.what{padding:6px 0}
.what small{display:block;color:var(--soft);overflow-wrap:anywhere}
.step.unneeded code,.step.cached code{color:var(--soft)}
.time{padding:6px 0;text-align:right;font-variant-numeric:tabular-nums;color:var(--soft);white-space:nowrap}
.step.failed .time{color:var(--failed)}
.rails{position:relative}
.rails svg{position:absolute;inset:0;width:100%;height:100%}
.rails path{fill:none;stroke:var(--unneeded);stroke-width:1.5}
.dot{position:absolute;top:50%;width:11px;height:11px;border-radius:50%;transform:translate(-50%,-50%);background:var(--paper);border:2px solid var(--unneeded)}
.dot.ran{background:var(--ran);border-color:var(--ran)}
.dot.cached{border-color:var(--cached)}
.dot.failed{background:var(--failed);border-color:var(--failed);border-radius:2px}
.bar{position:relative;min-height:12px}
.bar i{position:absolute;top:50%;height:10px;margin-top:-5px;min-width:2px;border-radius:2px;background:var(--cached)}
.step.ran .bar i{background:var(--ran)}.step.failed .bar i{background:var(--failed)}
.layer{display:grid;grid-template-columns:minmax(0,1fr) 84px minmax(0,34%);column-gap:12px;border-top:1px solid var(--line)}
.layer code{padding:6px 0}
@media (max-width:640px){
main{padding:16px 12px 48px}
.step{grid-template-columns:auto minmax(0,1fr) auto}
.step .rails{grid-row:1/span 2}
.step .bar{grid-column:2/-1;margin-bottom:6px}
.layer{grid-template-columns:minmax(0,1fr) auto}
.layer .bar{grid-column:1/-1;margin-bottom:6px}
}
@media print{.step,.layer{break-inside:avoid}}
";
