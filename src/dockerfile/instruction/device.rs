//! `RUN --device`.

use crate::dockerfile::ast::Device;
use crate::dockerfile::csv;
use crate::dockerfile::error::DeviceError;
use crate::dockerfile::scalar;
use crate::dockerfile::suggest::suggest;

pub(super) fn read(text: &str) -> Result<Device, DeviceError> {
    let mut device = Device::default();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required = scalar::boolean(value)
                    .ok_or_else(|| DeviceError::Value { key, value: value.to_owned() })?;
            }
            ("name", Some(value)) => {
                if !device.name.is_empty() {
                    return Err(DeviceError::NameRepeated(device.name));
                }
                value.clone_into(&mut device.name);
            }
            // The first field that is no key is the name, whatever is in it.
            _ if device.name.is_empty() => device.name = field,
            (_, None) => return Err(DeviceError::NotPair(field)),
            (_, Some(_)) => {
                let suggestion = suggest(&key, ["name", "required"]).map(str::to_owned);
                return Err(DeviceError::UnknownKey { key, field, suggestion });
            }
        }
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::{DeviceError, read};

    #[test]
    fn a_device_has_one_name() {
        let device = |text| read(text).map(|device| (device.name, device.required));
        assert_eq!(device("maker.test/lamp=all"), Ok(("maker.test/lamp=all".into(), false)));
        assert_eq!(device("name=a/b=c,required"), Ok(("a/b=c".into(), true)));
        assert_eq!(device("a/b,required=false"), Ok(("a/b".into(), false)));
        assert_eq!(device("a,name=b"), Err(DeviceError::NameRepeated("a".into())));
        assert_eq!(device("a,b"), Err(DeviceError::NotPair("b".into())));
        assert!(matches!(device("a,requierd=1"), Err(DeviceError::UnknownKey { .. })));
        assert!(matches!(device("a,required=maybe"), Err(DeviceError::Value { .. })));
    }
}
