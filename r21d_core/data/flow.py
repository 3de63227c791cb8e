from r21d_core.data.manifest import Manifest, Video
from r21d_core.study.spec import Spec


def videos_for(spec: Spec, manifest: Manifest, side: str) -> tuple[Video, ...]:
    return manifest.side(side)
