"""Give up an upload in parts."""

from __future__ import annotations

from app.db.repositories.uploads import Uploads
from app.domain.uploads import UploadDetails, UploadStatus, check_takes_parts
from app.wiring import Wiring


def cancel_upload(*, wiring: Wiring, tenant_id: str, upload_id: str) -> UploadDetails:
    """Cancel a pending upload; its parts are swept. Cancelling twice is no error.

    Raises:
        NotFound: no such upload, or another tenant's.
        StateConflict: it is completed or expired.
    """
    with wiring.database.begin() as connection:
        uploads = Uploads(connection)
        upload = uploads.lock(tenant_id, upload_id)
        if upload.status is not UploadStatus.CANCELLED:
            check_takes_parts(upload)
            upload = uploads.update(upload.id, status=UploadStatus.CANCELLED)
        return UploadDetails(upload)
